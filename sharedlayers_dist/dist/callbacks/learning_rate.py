"""The learning rate over many ranks: scaled once, and reached in small steps."""

from __future__ import annotations

from typing import Any

import keras

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.gradients.keras_hooks import learning_rate_of
from sharedlayers_dist.errors import UserError

_FACTOR = "_scaled_by"
_SCHEDULES = keras.optimizers.schedules
_RATES = {
    _SCHEDULES.ExponentialDecay: ("initial_learning_rate",),
    _SCHEDULES.InverseTimeDecay: ("initial_learning_rate",),
    _SCHEDULES.PolynomialDecay: ("initial_learning_rate", "end_learning_rate"),
    _SCHEDULES.CosineDecay: ("initial_learning_rate", "warmup_target"),
    _SCHEDULES.CosineDecayRestarts: ("initial_learning_rate",),
    _SCHEDULES.PiecewiseConstantDecay: ("values",),
}
"""The arguments of Keras's schedules that are learning rates."""


def scale_learning_rate(
    optimizer: keras.optimizers.Optimizer, factor: float | None = None
) -> keras.optimizers.Optimizer:
    """Multiplies an optimizer's learning rate, once, and returns the optimizer.

    Where each rank's batch stays as large as that of one process was, the global batch grows by
    the number of ranks, and the learning rate usually with it (Goyal et al., 2017, "Accurate,
    Large Minibatch SGD", section 2.1). A schedule of Keras is replaced by one with scaled rates,
    which a saved model records.

    Args:
        optimizer: Any Keras optimizer, distributed or not, that has not made a step.
        factor: The factor; None for the number of ranks.

    Raises:
        UserError: if the learning rate has been scaled before, if the optimizer has made steps
            (what it learned from was scaled when it was saved), or if its learning rate is a
            schedule of one's own.
    """
    factor = float(runtime.size()) if factor is None else float(factor)
    before = getattr(optimizer, _FACTOR, None)
    if before is not None:
        raise UserError(
            "A learning rate must be scaled once. Received: "
            f"optimizer={optimizer.name!r}, which was scaled by {before:g} before. Remove one "
            "scale_learning_rate()."
        )
    steps = int(optimizer.iterations)
    if steps:
        raise UserError(
            "A learning rate must be scaled before the first step: that of a restored optimizer "
            f"was scaled before it was saved. Received: optimizer={optimizer.name!r} after "
            f"{steps} steps. Set optimizer.learning_rate to another value instead."
        )
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = learning_rate_of(optimizer)
    if isinstance(rate, _SCHEDULES.LearningRateSchedule):
        inner.learning_rate = _scaled_schedule(rate, factor)
    elif callable(rate) and not isinstance(rate, keras.Variable):
        raise UserError(
            "A learning rate that is a function cannot be scaled. Received: "
            f"learning_rate={rate!r}. Multiply by dist.size() in it."
        )
    else:
        inner.learning_rate = float(rate) * factor
    object.__setattr__(optimizer, _FACTOR, factor)
    object.__setattr__(inner, _FACTOR, factor)
    return optimizer


def _scaled_schedule(schedule: Any, factor: float) -> Any:
    """Returns a schedule of the same class, with its rates multiplied."""
    names = _RATES.get(type(schedule))
    if names is None:
        raise UserError(
            "Only Keras's own schedules can be scaled. Received: learning_rate="
            f"{type(schedule).__name__}. Multiply by dist.size() where it is made."
        )
    config = schedule.get_config()
    for name in names:
        value = config[name]
        if isinstance(value, list | tuple):
            config[name] = [v * factor for v in value]
        elif value is not None:
            config[name] = value * factor
    return type(schedule).from_config(config)


class LearningRateWarmup(keras.callbacks.Callback):
    """Raises the learning rate step by step, from that of one rank to that of all.

    Over the first `epochs` epochs the learning rate goes linearly from `1 / ranks` of the
    optimizer's to all of it (Goyal et al., 2017, section 2.2), which is reached with the last
    step of these epochs. The optimizer must have been given the rate for all ranks, e.g. by
    `scale_learning_rate`. With one rank nothing changes.

    Args:
        epochs: Epochs until the full rate is reached.
        steps_per_epoch: Steps per epoch; None to take what `fit` knows.
        initial_rate: The full rate; None for the optimizer's when training begins. It must be
            given where training goes on within the warm-up, since the optimizer then has a rate of
            the warm-up. (A run of `sharedlayers_dist.train` knows its full rate by itself.)

    Raises:
        UserError: if `epochs` is not positive; when training begins, if the optimizer has a
            schedule, if the steps per epoch are not known, or if training goes on within the
            warm-up and the full rate is not known.

    Example:
        >>> from sharedlayers_dist import dist
        >>> callbacks = [*dist.default_callbacks(), dist.LearningRateWarmup(epochs=3)]
    """

    def __init__(
        self,
        *,
        epochs: float = 5,
        steps_per_epoch: int | None = None,
        initial_rate: float | None = None,
    ) -> None:
        super().__init__()
        if not epochs > 0:
            raise UserError(f"`epochs` must be positive. Received: epochs={epochs}.")
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._initial_rate = initial_rate
        self._full_rate = 0.0
        self._num_steps = 0.0
        self._step: int | None = None

    def get_state(self) -> dict[str, float | int | None]:
        """Returns what a checkpoint keeps: the steps that lie behind, and the full rate."""
        return {"step": self._step, "full_rate": self._full_rate}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on where another process stopped, also in the middle of an epoch."""
        self._step, self._full_rate = state["step"], state["full_rate"]

    def on_train_begin(self, logs: Any = None) -> None:
        """Finds out the rate to end with, and in how many steps."""
        optimizer = self.model.optimizer
        rate = learning_rate_of(optimizer)
        if not isinstance(rate, keras.Variable):
            raise UserError(
                "LearningRateWarmup sets the learning rate, which a schedule does, too. Received: "
                f"learning_rate={rate!r}. Use a schedule with a warm-up, such as "
                "CosineDecay(..., warmup_target=..., warmup_steps=...)."
            )
        self._full_rate = float(rate) if self._initial_rate is None else self._initial_rate
        steps_per_epoch = self._steps_per_epoch or self.params.get("steps") or 0
        if not steps_per_epoch:
            raise UserError(
                "The number of steps per epoch is not known. Received: steps_per_epoch=None. Give "
                "LearningRateWarmup(steps_per_epoch=...)."
            )
        self._num_steps = self._epochs * steps_per_epoch
        self._step = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Finds out where training goes on, when its first epoch begins."""
        if self._step is not None:
            return
        self._step = round(epoch * self._num_steps / self._epochs)
        is_within = 0 < self._step < self._num_steps
        if is_within and self._initial_rate is None and runtime.size() > 1:
            raise UserError(
                "A warm-up that goes on must be told the full learning rate: the optimizer has "
                f"that of the step it was saved at. Received: initial_rate=None, epoch {epoch} of "
                f"a warm-up of {self._epochs:g}. Give LearningRateWarmup(initial_rate=...)."
            )

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate for the next step."""
        self._step = (self._step or 0) + 1
        if runtime.size() > 1 and self._step <= self._num_steps:
            share = warmup_share(self._step / self._num_steps, runtime.size())
            self.model.optimizer.learning_rate = self._full_rate * share


def warmup_share(progress: float, num_ranks: int) -> float:
    """Returns the share of the full learning rate after `progress`, from 0 to 1, of the warm-up."""
    return min(1.0, (1 + progress * (num_ranks - 1)) / num_ranks)
