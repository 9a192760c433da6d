"""When checkpoints are made: with a real folder, and a clock that the tests turn."""

import threading

import pytest

from sharedlayers_dist.dist import HorovodCollectives
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.callback import SaveCheckpoints
from sharedlayers_dist.training.checkpoints.files import (
    list_checkpoints,
    read_checkpoint,
    read_newest_checkpoint,
    step_of_name,
)
from sharedlayers_dist.training.checkpoints.manager import (
    CheckpointManager,
    CheckpointWriteError,
    read_metrics,
)
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
from sharedlayers_dist.training.position import Position, PositionTracker
from sharedlayers_dist.training.preemption import RunInterruptedError, RunMovedError, StopRequest
from tests.unit.training.checkpoints.samples import assert_is_whole, make_checkpoint

STEPS_PER_EPOCH = 10


class Run:
    """The callbacks of one rank, called as Keras would."""

    def __init__(self, folder, *, every=0, minutes=0.0, newest=99, before=lambda: None):
        self.files = LocalFolder(folder)
        self.now = 0.0
        self.stop = StopRequest()
        self.track = PositionTracker(Position(), steps_per_epoch=STEPS_PER_EPOCH, epochs=3)
        self.track.set_model(type("Model", (), {"stop_training": False})())
        self.manager = CheckpointManager(
            self.files, RetentionPolicy(newest=newest), before=before, start=0
        )
        self.save = SaveCheckpoints(
            self.track,
            capture=lambda position: make_checkpoint(position.step),
            manager=self.manager,
            collectives=HorovodCollectives(),
            stop=self.stop,
            every=every,
            minutes=minutes,
            clock=lambda: self.now,
        )

    def train_epoch(self, epoch, *, seconds_per_step=1.0, wait=True):
        self.track.on_epoch_begin(epoch)
        for batch in range(STEPS_PER_EPOCH):
            self.step(batch, seconds_per_step, wait=wait)
        self.save.on_epoch_end(epoch, {"loss": 1.0 / (epoch + 1)})

    def step(self, batch, seconds=1.0, *, wait=True):
        self.save.on_train_batch_begin(batch)
        self.now += seconds
        self.track.on_train_batch_end(batch)
        self.save.on_train_batch_end(batch)
        if wait:
            assert self.manager.wait(30)

    @property
    def saved(self):
        return [step_of_name(name) for name in list_checkpoints(self.files)]


@pytest.mark.parametrize(
    ("when", "steps"),
    [
        ({}, [10, 20]),
        ({"every": 4}, [4, 8, 10, 12, 16, 20]),
        ({"every": 5}, [5, 10, 15, 20]),
        # A step takes a second, and the clock is read before it.
        ({"minutes": 0.05}, [4, 8, 10, 14, 18, 20]),
        ({"minutes": 0.05, "every": 5}, [4, 5, 9, 10, 14, 15, 19, 20]),
        ({"minutes": 60}, [10, 20]),
    ],
)
def test_checkpoints_are_made_when_they_are_due(tmp_path, when, steps):
    run = Run(tmp_path, **when)
    run.train_epoch(0)
    run.train_epoch(1)
    run.save.on_train_end()
    assert run.saved == steps
    for name in list_checkpoints(run.files):
        assert_is_whole(read_checkpoint(run.files, name))
    metrics = read_metrics(run.files)
    assert [metrics[10], metrics[20]] == [{"loss": 1.0}, {"loss": 0.5}]


def test_a_checkpoint_is_put_off_while_another_is_written(tmp_path):
    may_go_on = threading.Event()
    run = Run(tmp_path, every=2, before=lambda: may_go_on.wait(30))
    run.track.on_epoch_begin(0)
    for batch in range(7):
        run.step(batch, wait=False)
    assert run.manager.is_busy  # With that of step 2; those of 4 and 6 were put off.
    assert run.saved == []
    may_go_on.set()
    assert run.manager.wait(30)
    run.step(7)
    assert run.saved == [2, 8]
    run.step(8)
    assert run.saved == [2, 8]


def test_the_end_of_an_epoch_waits_for_what_is_being_written(tmp_path):
    may_go_on = threading.Event()
    run = Run(tmp_path, every=9, before=lambda: may_go_on.wait(30))
    threading.Timer(0.3, may_go_on.set).start()
    run.train_epoch(0, wait=False)
    run.save.on_train_end()
    assert run.saved == [9, 10]


def test_old_ones_are_removed(tmp_path):
    run = Run(tmp_path, every=1, newest=2)
    run.train_epoch(0)
    run.save.on_train_end()
    assert run.saved == [9, 10]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        "step-00000009",
        "step-00000010",
    }


def test_an_error_in_the_background_surfaces_at_the_next_step(tmp_path):
    run = Run(tmp_path, every=2)
    run.track.on_epoch_begin(0)
    for batch in range(3):
        run.step(batch)
    (tmp_path / "checkpoints" / ".step-00000004.partial").write_text("in the way")
    run.step(3)
    with pytest.raises(CheckpointWriteError, match=r"FileExistsError.* at step 4 in .*--resume"):
        run.step(4)
    newest = read_newest_checkpoint(run.files)
    assert newest is not None
    assert newest.step == 2
    assert_is_whole(newest)


@pytest.mark.parametrize("moment", ["end of epoch", "end of training", "asked to stop"])
def test_an_error_in_the_background_surfaces_wherever_the_run_waits(tmp_path, moment):
    def fail():
        raise OSError("no space left")

    run = Run(tmp_path, before=fail)
    run.track.on_epoch_begin(0)
    run.step(0)
    if moment != "asked to stop":
        run.save.on_epoch_end(0, {})
    run.stop.is_set = moment == "asked to stop"
    goes_on = {
        "end of epoch": lambda: run.save.on_epoch_end(1, {}),
        "end of training": run.save.on_train_end,
        "asked to stop": lambda: run.step(1),
    }
    with pytest.raises(CheckpointWriteError, match="OSError: no space left at step"):
        goes_on[moment]()


def test_an_error_in_making_a_checkpoint_is_told(tmp_path):
    run = Run(tmp_path, every=1)

    def fail(position):
        raise ZeroDivisionError

    run.save._capture = fail
    run.track.on_epoch_begin(0)
    with pytest.raises(ZeroDivisionError):
        run.step(0)


def test_a_run_that_is_asked_to_stop_saves_itself(tmp_path):
    run = Run(tmp_path)
    run.track.on_epoch_begin(0)
    run.step(0)
    run.stop.is_set = True
    with pytest.raises(RunInterruptedError, match="after step 2"):
        run.step(1)
    assert run.saved == [2]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("is_set", True, RunInterruptedError), ("is_to_move", lambda: True, RunMovedError)],
)
def test_a_run_that_is_asked_in_the_last_step_of_an_epoch_ends_the_epoch(
    tmp_path, name, value, error
):
    run = Run(tmp_path)
    run.track.on_epoch_begin(0)
    for batch in range(9):
        run.step(batch)
    setattr(run.stop, name, value)
    run.step(9)
    with pytest.raises(error, match="after step 10"):
        run.save.on_epoch_end(0, {"loss": 1.0})
    assert read_metrics(run.files) == {10: {"loss": 1.0}}


def test_a_run_that_is_to_move_saves_itself_once(tmp_path):
    run = Run(tmp_path, every=2)
    run.track.on_epoch_begin(0)
    run.step(0)
    run.stop.is_to_move = lambda: True
    with pytest.raises(RunMovedError, match="after step 2 and goes on with other processes"):
        run.step(1)
    assert run.saved == [2]


def test_a_run_that_is_to_stop_and_to_move_stops(tmp_path):
    run = Run(tmp_path)
    run.track.on_epoch_begin(0)
    run.stop.is_set, run.stop.is_to_move = True, lambda: True
    with pytest.raises(RunInterruptedError, match="after step 1"):
        run.step(0)


def test_a_run_that_is_to_move_in_its_last_epoch_ends_it(tmp_path):
    run = Run(tmp_path)
    run.track.on_epoch_begin(2)
    run.stop.is_to_move = lambda: True
    run.save.on_epoch_end(2, {"loss": 1.0})
    run.save.on_train_end()


def save_steps(run, steps, *, start, newest=2):
    """Another process goes on from step `start`."""
    manager = CheckpointManager(
        run, RetentionPolicy(newest=newest), before=lambda: None, start=start
    )
    for step in steps:
        manager.save(make_checkpoint(step), {})
        assert manager.wait(30)
        assert manager.take_error() is None


def test_checkpoints_that_were_passed_over_do_not_push_out_good_ones(tmp_path):
    """The manifest of step 8 is good, its tensors are not; the run goes on from step 4."""
    run = LocalFolder(tmp_path)
    save_steps(run, [2, 4, 8], start=0, newest=9)
    (tmp_path / "checkpoints" / "step-00000008" / "tensors.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="step-00000008"):
        newest = read_newest_checkpoint(run)
    assert newest is not None
    assert newest.step == 4
    save_steps(run, [5], start=4, newest=1)
    assert list_checkpoints(run) == ["step-00000005"]
    assert_is_whole(read_checkpoint(run, "step-00000005"))


def test_unfinished_checkpoints_go_with_the_next_one_that_is_written(tmp_path):
    """As an object store shows them: some files, and no manifest."""
    run = LocalFolder(tmp_path)
    save_steps(run, [2, 4], start=0)
    run.write("checkpoints/step-00000003/state.json", b"{}")
    run.write("checkpoints/step-00000006/tensors.safetensors", b"")
    save_steps(run, [5], start=4)
    assert list_checkpoints(run) == ["step-00000004", "step-00000005"]
