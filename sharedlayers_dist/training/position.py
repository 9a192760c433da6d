"""Where a training run stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True, kw_only=True)
class Position:
    """A place between two steps of a run."""

    epoch: int = 0
    """Index of the epoch, from 0."""
    step_of_epoch: int = 0
    """Steps of that epoch that lie behind."""
    step: int = 0
    """Steps of the whole run that lie behind."""


class PositionTracker(keras.callbacks.Callback):
    """Knows the run's position; the first of the callbacks, so that the others can ask it.

    Args:
        start: Where the run begins, or goes on.
        steps_per_epoch: Steps of one epoch, the same on all ranks.
        epochs: Epochs of the whole run.
    """

    def __init__(self, start: Position, *, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self.start = start
        self.steps_per_epoch = steps_per_epoch
        self.position = start
        self.epochs = epochs

    @property
    def is_last_epoch(self) -> bool:
        """Whether the run ends with the epoch it is in."""
        return self.position.epoch + 1 >= self.epochs or bool(self.model.stop_training)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Stands at the epoch's first step, or where the resumed epoch goes on."""
        self.epoch_begins(epoch)

    def epoch_begins(self, epoch: int) -> None:
        """Moves to the first step of `epoch` that is to be trained."""
        resumed = epoch == self.start.epoch
        self.position = Position(
            epoch=epoch,
            step_of_epoch=self.start.step_of_epoch if resumed else 0,
            step=self.start.step if resumed else self.position.step,
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Moves one step on."""
        now = self.position
        self.position = Position(
            epoch=now.epoch, step_of_epoch=now.step_of_epoch + 1, step=now.step + 1
        )

    def data_position(self) -> tuple[int, int]:
        """`(epoch, step of the epoch)` that the next batch belongs to."""
        return self.position.epoch, self.position.step_of_epoch
