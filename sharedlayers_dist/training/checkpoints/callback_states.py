"""What callbacks remember from epoch to epoch, as part of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

_ATTRIBUTES: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "best", "best_epoch", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
}
"""What Keras's own callbacks keep."""


def read_states(callbacks: Sequence[keras.callbacks.Callback]) -> list[Any]:
    """The state of each callback, as JSON can hold it; None for one that has none.

    Besides Keras's own, a callback takes part that has `get_state()` and `set_state(state)`.
    """
    return [_read(callback) for callback in callbacks]


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
        callbacks: In the order in which their states were read.
        states: As `read_states` gave them; empty for a new run.
    """

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], states: Sequence[Any]
    ) -> None:
        super().__init__()
        self._callbacks = callbacks
        self._states = states

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Assigns the states."""
        for callback, state in zip(self._callbacks, self._states, strict=False):
            if state is None:
                continue
            if hasattr(callback, "set_state"):
                callback.set_state(state)
                continue
            for name, value in state.items():
                setattr(callback, name, value)
