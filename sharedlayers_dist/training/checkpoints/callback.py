"""When checkpoints are made, and when a run that was asked to stop or to move ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras

from sharedlayers_dist.dist import Collectives, StepFlags, prepare
from sharedlayers_dist.training.checkpoints.files import Checkpoint
from sharedlayers_dist.training.checkpoints.manager import CheckpointManager
from sharedlayers_dist.training.position import Position, PositionTracker
from sharedlayers_dist.training.preemption import RunInterruptedError, RunMovedError, StopRequest

_SECONDS_BETWEEN_LOOKS = 5.0

Capture = Callable[[Position], Checkpoint | None]
"""Makes a checkpoint of a position on rank zero; every rank must call it."""


class SaveCheckpoints(keras.callbacks.Callback):
    """Makes checkpoints when they are due, and ends the run when it is asked to stop or to move.

    Rank zero decides what hangs on its clock or on its disk and tells the others; any rank tells
    that it was asked to stop, or to go on with other processes. They do so before each step, and it
    travels with the gradients: all act on it when that step has ended. So a checkpoint that is due
    by its number is made after exactly that step; the clock, a request and an error of writing act
    after the step that begins next. A step whose gradients are accumulated tells nothing, and they
    act after the next one that does; for a checkpoint that is due by its number, as all ranks know,
    they ask at once.

    Args:
        track: The run's position.
        capture: Makes a checkpoint.
        manager: Writes it, on rank zero; None on the others.
        collectives: Joins the decisions and the errors of all ranks.
        stop: Whether this rank was asked to stop, or to move.
        every: Steps between checkpoints within an epoch; 0 for none.
        minutes: Minutes between them, by rank zero's clock; 0 for none.
        clock: Seconds that never go back; passed in so that tests need not wait.
    """

    def __init__(
        self,
        track: PositionTracker,
        *,
        capture: Capture,
        manager: CheckpointManager | None,
        collectives: Collectives,
        stop: StopRequest,
        every: int,
        minutes: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._track = track
        self._capture = capture
        self._manager = manager
        self._collectives = collectives
        self._stop = stop
        self._every = every
        self._seconds = minutes * 60
        self._clock = clock
        self._saved_at = clock()
        self._is_wanted = False
        self._error: Exception | None = None
        self._own = [False, False, False, False]
        self._flags = StepFlags(len(self._own))

    def set_model(self, model: keras.Model) -> None:
        """Lets what the ranks have to say travel with the gradients of the model's steps."""
        super().set_model(model)
        prepare(model, flags=self._flags)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Says what this rank knows of the step that begins."""
        has_failed = self._take_error() is not None
        self._own = [has_failed, self._is_due(), self._stop.is_set, self._stop.is_to_move()]
        self._flags.set(self._own)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves if it is time; the last step of an epoch is left to the end of the epoch."""
        position = self._track.position
        told = self._flags.sums()
        if told is None and self._is_due_by_number(position.step):
            told = self._collectives.sum(self._own)
        if told is None:
            return
        failed, due, stopped, moved = told
        if failed:
            self._collectives.raise_on_all_ranks(self._error)
        if position.step_of_epoch == self._track.steps_per_epoch:
            return
        if due or stopped or moved:
            self._save(position, {})
        if stopped or moved:
            self._leave(position, is_stopped=stopped > 0)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves at the start of the next epoch, with the metrics of this one."""
        position = Position(epoch=epoch + 1, step=self._track.position.step)
        self._save(position, dict(logs or {}))
        stopped, moved = self._collectives.sum([self._stop.is_set, self._stop.is_to_move()])
        if (stopped or moved) and not self._track.is_last_epoch:
            self._leave(position, is_stopped=stopped > 0)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until everything is written."""
        self._finish()

    def _is_due(self) -> bool:
        """Whether rank zero wants a checkpoint after the step that begins.

        While it writes one, the next is put off.
        """
        by_time = 0 < self._seconds <= self._clock() - self._saved_at
        self._is_wanted |= by_time or self._is_due_by_number(self._track.position.step + 1)
        return self._is_wanted and self._manager is not None and not self._manager.is_busy

    def _is_due_by_number(self, step: int) -> bool:
        return self._every > 0 and step % self._every == 0

    def _save(self, position: Position, metrics: dict[str, float]) -> None:
        self._finish()  # What is being written lies in the memory that is copied to now.
        self._saved_at = self._clock()
        self._is_wanted = False
        error: BaseException | None = None
        try:
            checkpoint = self._capture(position)
            if self._manager is not None and checkpoint is not None:
                self._manager.save(checkpoint, metrics)
        except Exception as e:  # Whatever it is, the other ranks must learn of it.
            error = e
        self._collectives.raise_on_all_ranks(error)

    def _finish(self) -> None:
        """Waits until everything is written.

        The ranks wait together and not for rank zero: a collective in which one rank is missing for
        long would end the run.
        """
        while True:
            is_busy = self._manager is not None and not self._manager.wait(_SECONDS_BETWEEN_LOOKS)
            if self._collectives.sum([is_busy]) == [0]:
                break
        self._collectives.raise_on_all_ranks(self._take_error())

    def _take_error(self) -> Exception | None:
        """What writing has failed with; kept until all ranks raise it."""
        if self._error is None and self._manager is not None:
            self._error = self._manager.take_error()
        return self._error

    def _leave(self, position: Position, *, is_stopped: bool) -> None:
        self._finish()
        if not is_stopped:
            raise RunMovedError(position.step)
        raise RunInterruptedError(
            f"The run was asked to stop. It has saved itself after step {position.step} and goes "
            "on with --resume."
        )
