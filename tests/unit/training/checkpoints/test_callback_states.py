"""What callbacks remember finds its way back to them, whatever stands before them."""

import json
import warnings

import keras
import pytest

from sharedlayers_dist.training.checkpoints.callback_states import ResumeCallbacks, read_states


class Counts(keras.callbacks.Callback):
    def __init__(self, count=0):
        super().__init__()
        self.count = count

    def get_state(self):
        return self.count

    def set_state(self, state):
        self.count = state


class CountsToo(Counts):
    pass


def saved(callbacks):
    return json.loads(json.dumps(read_states(callbacks)))


def resume(callbacks, states, *, warns=True):
    """Returns the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ResumeCallbacks(callbacks, states, warns=warns).on_train_begin()
    return [str(warning.message) for warning in caught]


def test_states_go_to_callbacks_of_their_own_class():
    states = saved([Counts(3), keras.callbacks.TerminateOnNaN(), CountsToo(5), Counts(7)])
    callbacks = [CountsToo(), Counts(), keras.callbacks.History(), Counts()]
    assert resume(callbacks, states) == []
    assert [c.count for c in callbacks if isinstance(c, Counts)] == [5, 3, 7]


def test_early_stopping_goes_on_where_it_was():
    stopping = keras.callbacks.EarlyStopping(monitor="loss")
    stopping.on_train_begin()
    stopping.wait, stopping.best = 2, 0.5
    again = keras.callbacks.EarlyStopping(monitor="loss")
    again.on_train_begin()
    assert resume([Counts(), again], saved([stopping]))  # Counts is new.
    assert (again.wait, again.best) == (2, 0.5)


def test_a_state_without_its_callback_is_told_and_given_to_no_other():
    other = CountsToo()
    (lost, new) = resume([other], saved([Counts(3)]))
    assert "what Counts remembered, and this run has no such callback" in lost
    assert "nothing that CountsToo remembered" in new
    assert other.count == 0
    assert resume([other], saved([Counts(3)]), warns=False) == []  # On the other ranks.


@pytest.mark.parametrize("states", [None, {}])
def test_nothing_is_told_where_nothing_was_remembered(states):
    assert resume([keras.callbacks.History()], states) == []


def test_the_states_of_an_older_run_are_a_list():
    callbacks = [Counts(), keras.callbacks.History(), CountsToo()]
    assert resume(callbacks, [3, None, 5]) == []
    assert (callbacks[0].count, callbacks[2].count) == (3, 5)
