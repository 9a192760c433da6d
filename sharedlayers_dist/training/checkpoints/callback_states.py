"""What callbacks remember from epoch to epoch, as part of a checkpoint."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras

_ATTRIBUTES: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}
"""What Keras's own callbacks keep."""


def read_states(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, Any]:
    """The state of each callback that has one, as JSON can hold it, by the callback's key.

    Besides Keras's own, a callback takes part that has `get_state()` and `set_state(state)`.
    """
    states = {key: _read(callback) for key, callback in _by_key(callbacks).items()}
    return {key: state for key, state in states.items() if state is not None}


def _by_key(
    callbacks: Sequence[keras.callbacks.Callback],
) -> dict[str, keras.callbacks.Callback]:
    """Callbacks by the name of their class; of several of one class, the later ones with a number.

    Only the order among those of one class counts, so that others may come and go.
    """
    found: dict[str, keras.callbacks.Callback] = {}
    counts: Counter[str] = Counter()
    for callback in callbacks:
        name = type(callback).__name__
        counts[name] += 1
        found[name if counts[name] == 1 else f"{name}:{counts[name]}"] = callback
    return found


def _read(callback: keras.callbacks.Callback) -> Any:
    if hasattr(callback, "get_state"):
        return callback.get_state()
    names = _names(callback)
    values = {name: getattr(callback, name) for name in names}
    return {n: None if v is None else float(v) for n, v in values.items()} if names else None


def _names(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((n for cls, n in _ATTRIBUTES.items() if isinstance(callback, cls)), ())


class ResumeCallbacks(keras.callbacks.Callback):
    """Gives callbacks back what they remembered; the last of them all, since they reset first.

    Args:
        callbacks: Those whose states were read.
        states: As `read_states` gave them; a list in the callbacks' order in older runs; None for a
            new run.
        warns: Whether this process tells of states and callbacks that have no counterpart.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        states: Mapping[str, Any] | Sequence[Any] | None,
        *,
        warns: bool,
    ) -> None:
        super().__init__()
        self._callbacks = _by_key(callbacks)
        if isinstance(states, Sequence):
            states = dict(zip(self._callbacks, states, strict=False))
        self._states = states
        self._warns = warns

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Assigns the states."""
        if self._states is None:
            return
        states = {key: state for key, state in self._states.items() if state is not None}
        if self._warns:
            self._warn_of_differences(states)
        for key, state in states.items():
            if (callback := self._callbacks.get(key)) is None:
                continue
            if hasattr(callback, "set_state"):
                callback.set_state(state)
            else:
                for name, value in state.items():
                    setattr(callback, name, value)

    def _warn_of_differences(self, states: Mapping[str, Any]) -> None:
        able = [key for key, callback in self._callbacks.items() if _read(callback) is not None]
        lost = [key for key in states if key not in self._callbacks]
        new = [key for key in able if key not in states]
        if lost:
            warnings.warn(
                f"The checkpoint holds what {', '.join(lost)} remembered, and this run has no such "
                "callback: it goes on without. Give the same callbacks to go on as before.",
                stacklevel=2,
            )
        if new:
            warnings.warn(
                f"The checkpoint holds nothing that {', '.join(new)} remembered: what is new "
                "begins from the start.",
                stacklevel=2,
            )
