"""Every private name of Keras that `dist` uses, each behind a function with a plain name.

Keras may change these with any release, so setup.py bounds its version, and each has a test in
`tests/unit/dist/gradients/test_keras_hooks.py`, which also runs with every version in the bounds.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import keras
import tensorflow as tf

_ONE_NUMBER_A_BATCH = "_sharedlayers_dist_one_number_a_batch"


def is_built(model: keras.Model) -> bool:
    """Returns whether all layers of a model, nested ones included, have their variables."""
    return all(layer.built for layer in layers_within(model))


def layers_within(model: keras.Model) -> list[keras.Layer]:
    """Returns all layers of a model, nested ones and itself included."""
    return list(model._flatten_layers())


def has_losses_of_calls(model: keras.Model) -> bool:
    """Returns whether a layer has added a loss in its last call: no regularizer of weights."""
    return any(layer._losses for layer in model._flatten_layers())


def build_for_batch(model: keras.Model, data: Any) -> None:
    """Makes the variables of the model, its loss, metrics and optimizer, by the shapes of `data`.

    Args:
        model: A compiled model.
        data: A batch `(x, y, sample_weight)`, tensors or symbolic ones.
    """
    model._symbolic_build(data_batch=data)


def call_in_training(model: keras.Model, x: Any) -> Any:
    """Returns the model's outputs as Keras's `train_step` computes them."""
    return model(x, training=True) if model._call_has_training_arg else model(x)


def compute_loss_in_training(
    model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any
) -> Any:
    """Returns the scalar loss of a batch, as Keras's `train_step` computes it."""
    return model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)


def loss_trackers(model: keras.Model) -> list[keras.metrics.Metric]:
    """Returns the metrics that hold mean losses: that of the model, then those of its outputs."""
    per_output = [] if model._compile_loss is None else model._compile_loss.metrics
    return [model._loss_tracker, *per_output]


def compiled_metrics(model: keras.Model) -> tuple[Any, Any]:
    """Returns the `metrics` and the `weighted_metrics` that a model was compiled with."""
    compiled = model._compile_metrics
    return (
        (None, None)
        if compiled is None
        else (
            compiled._user_metrics,
            compiled._user_weighted_metrics,
        )
    )


def mode_of_metrics(model: keras.Model) -> dict[str, Literal["min", "max"] | None]:
    """Returns for each metric of a compiled model whether a small or a large value is good.

    None stands for a metric that does not say. The model has one output, `(B, 1)`.
    """
    compiled = model._compile_metrics
    if compiled is None:
        return {}
    if not compiled.built:
        score = keras.KerasTensor((None, 1))
        compiled.build(score, score)
    modes: dict[str, Literal["min", "max"] | None] = {"up": "max", "down": "min"}
    return {m.name: modes.get(getattr(m, "_direction", "")) for m in compiled.metrics}


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the states of the random number generators of a model's layers: seed and counter."""
    return [v for v in model.variables if v.name == "seed_generator_state"]


def has_mask(output: tf.Tensor) -> bool:
    """Returns whether a layer has left a mask with its output."""
    return getattr(output, "_keras_mask", None) is not None


def learning_rate_of(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns what sets the learning rate: a variable, a schedule or a function.

    The public `learning_rate` is a schedule's value at the moment. A `LossScaleOptimizer` has the
    rate of the optimizer that it wraps.
    """
    return getattr(optimizer, "inner_optimizer", optimizer)._learning_rate


def trainable_variables_of(optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """Returns the variables that a built optimizer updates, in its order."""
    return list(optimizer._trainable_variables)


class BatchNormalizationByMoments(keras.layers.BatchNormalization):
    """Keras's layer, with the statistics of a batch taken by a method to override."""

    def _moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        return self.moments(inputs, mask)

    def moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        """Returns mean and variance of a batch, each `(channels,)`."""
        return super()._moments(inputs, mask)

    @property
    def reduced_axes(self) -> list[int]:
        """The axes of the inputs that the statistics are taken over; known once built."""
        return list(self._reduction_axes)


@functools.cache
def note_functions_of_batches() -> None:
    """Makes a metric that is the mean of a function remember whether this gives one number a batch.

    Only the call itself shows it: the same function may give one number a sample for other shapes.
    `gives_one_number_a_batch` tells it afterwards.
    """
    plain_update = keras.metrics.MeanMetricWrapper.update_state

    @functools.wraps(plain_update)
    def update_state(self: Any, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        function = self._fn

        def note(*args: Any, **kwargs: Any) -> Any:
            values = function(*args, **kwargs)
            if len(getattr(values, "shape", ())) == 0:
                object.__setattr__(self, _ONE_NUMBER_A_BATCH, True)
            return values

        object.__setattr__(self, "_fn", note)
        try:
            return plain_update(self, y_true, y_pred, sample_weight)
        finally:
            object.__setattr__(self, "_fn", function)

    keras.metrics.MeanMetricWrapper.update_state = update_state


def gives_one_number_a_batch(metric: keras.metrics.Metric) -> bool | None:
    """Returns whether a metric has seen its function give one number for a batch of samples.

    None for a function that is not Keras's own while `note_functions_of_batches` was not called.
    """
    is_noted = note_functions_of_batches.cache_info().currsize > 0
    if is_noted or not isinstance(metric, keras.metrics.MeanMetricWrapper):
        return getattr(metric, _ONE_NUMBER_A_BATCH, False)
    is_keras_own = getattr(metric._fn, "__module__", "").startswith("keras.")
    return False if is_keras_own else None
