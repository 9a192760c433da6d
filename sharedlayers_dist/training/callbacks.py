"""Keras callbacks of a training run: where it stands, what it tells, what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from sharedlayers_dist.dist import Collectives, exact_metrics
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.training.finite import require_finite_loss
from sharedlayers_dist.training.metrics_log import MetricsLog, TensorBoardLog
from sharedlayers_dist.training.position import Position, PositionTracker
from sharedlayers_dist.training.progress import Progress
from sharedlayers_dist.training.throughput import ThroughputMeter


class LogMetrics(keras.callbacks.Callback):
    """Writes metrics.jsonl and shows progress; figures are those of all ranks.

    Args:
        track: The run's position.
        logs: Where lines go on rank zero; none on the other ranks, which only take part.
        progress: What a person sees.
        collectives: Adds up the figures of all ranks.
        pairs_of_step: Usable pairs of this rank in a step of the epoch that has just been trained.
        read_waits: Seconds this rank has waited so far, by what it waited for.
        every: Steps between lines.
    """

    def __init__(
        self,
        track: PositionTracker,
        *,
        logs: Sequence[MetricsLog | TensorBoardLog],
        progress: Progress,
        collectives: Collectives,
        pairs_of_step: Callable[[int], int],
        read_waits: Callable[[], Mapping[str, float]],
        every: int,
    ) -> None:
        super().__init__()
        self._track = track
        self._logs = logs
        self._progress = progress
        self._pairs_of_step = pairs_of_step
        self._every = every
        self._interval = ThroughputMeter(read_waits, collectives)
        self._epoch = ThroughputMeter(read_waits, collectives)
        self._is_whole_epoch = True
        self.last_epoch: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clocks."""
        self._interval.restart()
        self._epoch.restart()
        self._is_whole_epoch = self._track.position.step_of_epoch == 0
        self._progress.begin(
            f"epoch {epoch + 1}/{self.params['epochs']}", self._track.position.step_of_epoch
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the step; every few of them, a line."""
        position = self._track.position
        pairs = self._pairs_of_step(position.step_of_epoch - 1)
        for speed in (self._interval, self._epoch):
            speed.add(pairs)
        values: dict[str, float] = {}
        if position.step % self._every == 0:
            values = exact_metrics(self.model) | self._interval.read()
            self._write("step", values)
            self._interval.restart()
        self._progress.step(position.step_of_epoch, values)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the epoch's line, with the validation metrics if there are any.

        Raises:
            UserError: on all ranks, if no rank had a pair that could be used.
        """
        self.last_epoch = dict(logs or {})
        values = self.last_epoch | self._epoch.read()
        if self._is_whole_epoch and not values["pairs_per_second"]:
            raise UserError(
                "A run trains on pairs that can be used. Received: an epoch in which all were left "
                "out. Leave out --on-bad-row skip to see what is wrong with the first."
            )
        self._write("epoch", values)
        self._progress.end(values)

    def _write(self, event: str, values: dict[str, float]) -> None:
        position = self._track.position
        place = {"event": event, "epoch": position.epoch + 1, "step": position.step}
        for log in self._logs:
            log.append(place | values)
        require_finite_loss(values, position.step)


class ResumeMetrics(keras.callbacks.Callback):
    """Puts back the metrics of an epoch that a checkpoint was made in the middle of.

    They come to rank zero as the sums over all ranks; the other ranks go on from nothing. Keras
    makes the metrics' variables in the first step, so the states are added after it.

    Args:
        start: Where the run goes on.
        states: The states of the model's metrics on rank zero; None elsewhere.
    """

    def __init__(self, start: Position, states: Sequence[np.ndarray] | None) -> None:
        super().__init__()
        self._states = states if start.step_of_epoch else None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the states, once."""
        if self._states is None:
            return
        for variable, value in zip(self.model.metrics_variables, self._states, strict=True):
            variable.assign_add(value.astype(variable.dtype))
        self._states = None


class ContinuousCallbackList(keras.callbacks.CallbackList):
    """Lets several calls of `fit` look like one to the callbacks; `finish` ends it.

    Args:
        callbacks: Called in their order.
        model: The model that is trained.
        epochs: Epochs of the whole training.
        steps: Steps of a whole epoch, the same on all ranks.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        model: keras.Model,
        epochs: int,
        steps: int,
    ) -> None:
        super().__init__(
            list(callbacks), add_history=True, model=model, epochs=epochs, steps=steps, verbose=0
        )
        self._has_begun = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Passes on the first beginning."""
        if not self._has_begun:
            self._has_begun = True
            super().on_train_begin(logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Passes on nothing: another call of `fit` may follow."""

    def finish(self) -> None:
        """Tells the callbacks that the training has ended."""
        super().on_train_end()
