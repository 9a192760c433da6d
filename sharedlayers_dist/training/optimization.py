"""The optimizer, the loss and the learning rate that a run's options name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from sharedlayers_dist import losses
from sharedlayers_dist.config import OptimizationConfig
from sharedlayers_dist.errors import UserError, named_line
from sharedlayers_dist.training.position import PositionTracker

DEFAULT_OPTIMIZER, DEFAULT_LOSS = "rmsprop", "binary_crossentropy"
"""The notebook's."""
_BASES = (losses.BatchLoss, losses.AnchorLoss)
_OR_OURS = {"optimizer": "", "loss": ", or of sharedlayers_dist.losses"}


def make_optimizer(options: OptimizationConfig) -> keras.optimizers.Optimizer:
    """The optimizer that the options name, with its learning rate as a number.

    Raises:
        UserError: for a name or an argument that Keras does not know, or one that is given twice.

    Example:
        >>> make_optimizer(OptimizationConfig(optimizer="adamw", clip_norm=1.0)).global_clipnorm
        1.0
    """
    name = options.optimizer or DEFAULT_OPTIMIZER
    arguments: dict[str, Any] = {"learning_rate": options.peak_learning_rate}
    if options.clip_norm:
        arguments["global_clipnorm"] = options.clip_norm
    if options.weight_decay:
        arguments["weight_decay"] = options.weight_decay
    twice = sorted(set(arguments) & set(options.optimizer_options))
    if twice:
        raise UserError(
            "An argument of the optimizer is given once. Received: "
            f"optimizer_options={dict(options.optimizer_options)}, where {', '.join(twice)} has an "
            "option of its own."
        )
    return _make("optimizer", name, [keras.optimizers], {**arguments, **options.optimizer_options})


def make_loss(options: OptimizationConfig) -> str | keras.losses.Loss:
    """The loss that the options name: a name, or a loss where it has arguments or is not Keras's.

    Raises:
        UserError: for a name or an argument that neither Keras nor this package knows.

    Example:
        >>> make_loss(OptimizationConfig(loss_options={"label_smoothing": 0.1})).name
        'binary_crossentropy'
        >>> make_loss(OptimizationConfig(loss="supervised_contrastive")).temperature
        0.1
    """
    name = options.loss or DEFAULT_LOSS
    loss = _make("loss", name, [keras.losses, losses], options.loss_options)
    return loss if options.loss_options or hasattr(loss, "takes") else name


def _make(kind: str, name: str, modules: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
    """An object of the class in one of some modules that `name` means, in any spelling."""
    base = {"optimizer": keras.optimizers.Optimizer, "loss": keras.losses.Loss}[kind]
    classes = {
        _plain(key): value
        for module in modules
        for key in dir(module)
        if isinstance(value := getattr(module, key), type)
        and issubclass(value, base)
        and value is not base
        and value not in _BASES
    }
    if _plain(name) not in classes:
        raise UserError(
            f"`{kind}` must be one of Keras's by name{_OR_OURS[kind]}. Received: {kind}={name!r}. "
            f"They are {', '.join(sorted(cls.__name__ for cls in classes.values()))}; any other "
            "one is compiled by the model's own function."
        )
    try:
        return classes[_plain(name)](**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`{kind}_options` must be arguments of the {kind}. Received: "
            f"{kind}={name!r}, {dict(arguments)} ({named_line(error)})."
        ) from error


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def learning_rate_of_step(step: int, options: OptimizationConfig, *, num_steps: int) -> float:
    """The learning rate of one step; a pure function, so that a resumed run goes on with it.

    Args:
        step: Global steps before this one.
        options: The schedule, its warm-up and its highest rate.
        num_steps: Global steps of the whole run.

    Example:
        >>> options = OptimizationConfig(learning_rate=0.1, schedule="linear", warmup_steps=2)
        >>> [round(learning_rate_of_step(step, options, num_steps=6), 3) for step in range(6)]
        [0.05, 0.1, 0.1, 0.075, 0.05, 0.025]
    """
    peak, warmup = options.peak_learning_rate, options.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if options.schedule == "constant":
        return peak
    done = (step - warmup) / max(1, num_steps - warmup)
    if options.schedule == "linear":
        return peak * (1 - done)
    return peak * (1 + math.cos(math.pi * done)) / 2


class ScheduleLearningRate(keras.callbacks.Callback):
    """Gives each step its learning rate, and leaves the highest one to a model that is saved.

    Args:
        track: The run's position.
        options: The schedule.
        num_steps: Global steps of the whole run.
    """

    def __init__(
        self, track: PositionTracker, options: OptimizationConfig, *, num_steps: int
    ) -> None:
        super().__init__()
        self._track = track
        self._options = options
        self._num_steps = num_steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Sets the rate of the step that begins."""
        self.model.optimizer.learning_rate = learning_rate_of_step(
            self._track.position.step, self._options, num_steps=self._num_steps
        )

    def on_train_end(self, logs: Any = None) -> None:
        """Who trains the finished model further wants a rate that is not 0."""
        self.model.optimizer.learning_rate = self._options.peak_learning_rate
