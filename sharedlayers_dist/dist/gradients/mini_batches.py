"""Cached gradients: a step over a batch that memory holds in parts alone.

Luyu Gao, Yunyi Zhang, Jiawei Han, Jamie Callan: Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup, 2021 (https://arxiv.org/abs/2101.06983), section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from sharedlayers_dist.dist.gradients import keras_hooks
from sharedlayers_dist.errors import UserError


class StepResult(NamedTuple):
    """What a training step has computed, before the update."""

    loss: tf.Tensor
    y_pred: Any
    """The outputs for all rows of the batch."""
    gradients: list[Any]
    """Of the model's trainable weights, in their order; None for one that has no part in it."""


def run_in_mini_batches(
    model: keras.Model, x: Any, y: Any, sample_weight: Any, *, size: int | None
) -> StepResult:
    """Returns loss, outputs and gradients of a batch of which `size` rows are worked on at a time.

    First the outputs of all rows are computed, and nothing else is kept; then the loss of all of
    them, and its gradients by the outputs; then the outputs once more, part by part, and from each
    part's gradients those of the weights, which are added up. So memory is a matter of `size`,
    and the result is that of the whole batch to rounding, whatever the loss compares. It costs a
    second forward pass.

    Random numbers (dropout) are the same in both passes. They are drawn for each part, so that
    other sizes draw others.

    XLA compiles the passes and not the loss between them, which may be one of all ranks.

    Args:
        model: A compiled model.
        x: Inputs; all their leaves have the batch as their first dimension.
        y: Targets, and `sample_weight` the weights, as `train_step` gets them.
        sample_weight: See `y`.
        size: Rows of a part, at least 1; None for all of them.

    Raises:
        UserError: for a model that cannot be cut along the batch.
    """
    if size is not None:
        _refuse_rows_that_depend_on_each_other(model)
    weights = model.trainable_weights
    parts = _Parts(x, size)
    passes = _Passes(model)
    states = _read_states(model)
    y_pred = _run_all(passes, parts)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        loss = keras_hooks.compute_loss_in_training(model, x, y, y_pred, sample_weight)
        scaled = model.optimizer.scale_loss(loss)
    by_output, of_weights = tape.gradient(scaled, (y_pred, weights))  # Those of regularizers.
    with tf.control_dependencies(tf.nest.flatten(y_pred)):
        for variable, state in states:
            variable.assign(state)
    through_outputs = _backpropagate(passes, parts, y_pred, by_output)
    gradients = [_add(a, b) for a, b in zip(of_weights, through_outputs, strict=True)]
    return StepResult(loss, y_pred, gradients)


def _read_states(model: keras.Model) -> list[tuple[keras.Variable, tf.Tensor]]:
    """What a forward pass may change beside its outputs, such as the states of random numbers."""
    return [(v, v.value.read_value()) for v in model.non_trainable_variables]


class _Parts:
    """The inputs, part by part."""

    def __init__(self, x: Any, size: int | None) -> None:
        self._x = x
        self._size = size
        self.count = 1 if size is None else -(-tf.shape(_leaves(x)[0])[0] // size)
        """How many there are, scalar int32."""

    @property
    def specs(self) -> Any:
        """What every part is like."""
        return tf.nest.map_structure(
            lambda t: None if t is None else tf.TensorSpec([None, *t.shape[1:]], t.dtype), self._x
        )

    def take(self, number: tf.Tensor, values: Any = None) -> Any:
        """The rows of a part, of the inputs or of other values with as many rows."""
        whole = self._x if values is None else values
        if self._size is None:
            return whole
        begin = number * self._size
        return tf.nest.map_structure(
            lambda t: None if t is None else t[begin : begin + self._size], whole
        )


class _Passes:
    """Both passes of a part, each as one function, compiled by XLA where the model is."""

    def __init__(self, model: keras.Model) -> None:
        self.weights = model.trainable_weights
        self.has_gradient: list[bool] = []
        """Of each weight, whether it has a part in the outputs; known once `backward` is built."""
        self._model = model
        options = {"jit_compile": bool(model.jit_compile), "autograph": False}
        self.forward = tf.function(self._run, **options)
        # One function: XLA cannot hand what a loop leaves for its gradient from one to another.
        self.backward = tf.function(self._run_back, **options)

    def _run(self, part: Any) -> Any:
        """The outputs of a part."""
        model = self._model
        y_pred = keras_hooks.call_in_training(model, part)
        if any(keras_hooks.has_mask(output) for output in tf.nest.flatten(y_pred)):
            raise UserError(
                "Outputs of mini-batches are put together without a mask. Received: "
                f"y_pred={y_pred}, which has one. End the encoder with a layer that gives one "
                "vector for each item, or train without mini-batches."
            )
        if keras_hooks.has_losses_of_calls(model):
            raise UserError(
                "A loss that a layer adds in its call (`add_loss`) is of one mini-batch, and not "
                f"of the batch. Received: such a layer in {model.name!r}, with mini_batch_size. "
                "Make it a part of the model's loss, or train without mini-batches."
            )
        return y_pred

    def _run_back(self, part: Any, by_output: list[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients of the weights, from those of the outputs of a part; 0 for none."""
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(self._run(part))
        gradients = tape.gradient(outputs, self.weights, output_gradients=by_output)
        self.has_gradient = [g is not None for g in gradients]
        return [
            tf.zeros(w.shape, w.dtype) if g is None else tf.convert_to_tensor(g)
            for w, g in zip(self.weights, gradients, strict=True)
        ]


def _run_all(passes: _Passes, parts: _Parts) -> Any:
    """The outputs of all parts, end to end."""
    outputs = passes.forward.get_concrete_function(parts.specs).structured_outputs
    arrays = [
        tf.TensorArray(
            output.dtype,
            size=parts.count,
            infer_shape=False,
            element_shape=[None, *output.shape[1:]],
        )
        for output in tf.nest.flatten(outputs)
    ]

    def run_one(number: tf.Tensor, arrays: list[tf.TensorArray]) -> tuple[Any, ...]:
        flat = tf.nest.flatten(passes.forward(parts.take(number)))
        written = [array.write(number, one) for array, one in zip(arrays, flat, strict=True)]
        return number + 1, written

    _, arrays = _loop(run_one, parts, arrays)
    return tf.nest.pack_sequence_as(outputs, [array.concat() for array in arrays])


def _backpropagate(passes: _Passes, parts: _Parts, y_pred: Any, by_output: Any) -> list[Any]:
    """The gradients of the weights from those of all outputs; None where there is none."""
    received = [
        tf.zeros_like(output) if g is None else tf.convert_to_tensor(g)
        for g, output in zip(*map(tf.nest.flatten, (by_output, y_pred)), strict=True)
    ]

    def add_one(number: tf.Tensor, sums: list[tf.Tensor]) -> tuple[Any, ...]:
        gradients = passes.backward(parts.take(number), parts.take(number, received))
        return number + 1, [total + g for total, g in zip(sums, gradients, strict=True)]

    _, sums = _loop(add_one, parts, [tf.zeros(w.shape, w.dtype) for w in passes.weights])
    return [total if has else None for total, has in zip(sums, passes.has_gradient, strict=True)]


def _loop(body: Callable[..., Any], parts: _Parts, values: Any) -> Any:
    """Runs `body(number, values)` for each part, one after the other, so that memory is reused."""
    return tf.while_loop(
        lambda number, _: number < parts.count,
        body,
        (tf.constant(0), values),
        parallel_iterations=1,
    )


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return a if b is None else b
    return a + tf.convert_to_tensor(b)


def _refuse_rows_that_depend_on_each_other(model: keras.Model) -> None:
    """Raises UserError for batch statistics, which a part of the batch has other ones of."""
    names = [
        layer.name
        for layer in keras_hooks.layers_within(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if names:
        raise UserError(
            "Mini-batches have other statistics than their batch. Received: mini_batch_size, and "
            f"batch normalization in {', '.join(names)}. Use GroupNormalization or "
            "LayerNormalization, or train without mini-batches."
        )


def _leaves(x: Any) -> list[Any]:
    return [leaf for leaf in tf.nest.flatten(x) if leaf is not None]
