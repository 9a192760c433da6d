"""`prepare`: makes a model's own `fit` tell the optimizer how many samples each batch has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.gradients import keras_hooks
from sharedlayers_dist.dist.gradients.optimizer import Distribution, distribution_of
from sharedlayers_dist.dist.gradients.sample_counts import (
    NumSamples,
    count_samples,
    local_batch,
    refuse_loss_over_batch,
    refuse_masked_loss,
)
from sharedlayers_dist.dist.gradients.step_flags import StepFlags
from sharedlayers_dist.errors import UserError

_ATTRIBUTE = "_sharedlayers_dist_step"


def prepare(
    model: keras.Model, num_samples: NumSamples | None = None, *, flags: StepFlags | None = None
) -> keras.Model:
    """Makes `model.fit` exact over ranks with unequal batches, and lets XLA compile it.

    `BroadcastInitialState` calls this by itself. It may be called again, to give one of the
    options; the other stays as it is. With one rank it does nothing, unless `num_samples` is given,
    so that the loss logged is the mean over these, as it is with several; or the optimizer
    accumulates gradients, which it weighs by their samples.

    Where the model is compiled with `jit_compile=True`, or Keras chose so on a GPU, the forward
    and backward pass are compiled, and the reduction and the update run outside of what XLA sees,
    since Horovod's operations have no XLA form. This needs Keras's own `train_step`.

    Args:
        model: A compiled model whose optimizer is a `DistributedOptimizer`.
        num_samples: Counts what the loss of one rank's batch is the mean over; None to find it
            out: the samples, or the sum of the sample weights if the loss divides by that. A rank
            with 0 (one that got only padding) adds nothing to gradients, loss and metrics.
        flags: Numbers to travel with the gradients of each step; on all ranks or on none. They take
            the place of those given before.

    Returns:
        The same model.

    Raises:
        UserError: if the model's optimizer is not distributed.
    """
    is_alone = runtime.size() == 1
    is_distributed = distribution_of(getattr(model, "optimizer", None)) is not None
    if is_alone and num_samples is None and not is_distributed:
        return model
    if not is_alone and not is_distributed:
        raise UserError(
            "`model` must be compiled with a DistributedOptimizer. Received: optimizer="
            f"{getattr(model, 'optimizer', None)!r}. Use model.compile(optimizer="
            "dist.DistributedOptimizer(...), ...)."
        )
    step = prepared_step(model)
    if step is None:
        step = PreparedStep(model)
        object.__setattr__(model, _ATTRIBUTE, step)
    if num_samples is not None:
        step.num_samples = num_samples
    if flags is not None:
        step.flags = flags
    model.train_function = None
    model.test_function = None
    return model


def prepared_step(model: keras.Model) -> PreparedStep | None:
    """Returns what `prepare` attached to the model, or None."""
    return model.__dict__.get(_ATTRIBUTE)


class PreparedStep:
    """Stands in for a model's `train_step`, `test_step` and `make_train_function`."""

    def __init__(self, model: keras.Model) -> None:
        self.num_samples: NumSamples | None = None
        self.flags: StepFlags | None = None
        self.when_built: Callable[[], None] | None = None
        """Called once, outside of the graph, when the first step has built the model."""
        self._model = model
        self._train_step = model.train_step
        self._is_plain = getattr(model.train_step, "__func__", None) is keras.Model.train_step
        self._test_step = model.test_step
        self._make_train_function = model.make_train_function
        for name in ("train_step", "test_step", "make_train_function"):
            # Not by assignment, which Keras would track.
            object.__setattr__(model, name, getattr(self, name))

    def make_train_function(self, force: bool = False) -> Any:
        """Makes Keras's training function without letting XLA compile the whole of it."""
        if self._model.train_function is not None and not force:
            return self._model.train_function
        if runtime.size() > 1:
            refuse_loss_over_batch(self._model.loss)
        self._make_unwatched(force)
        run = self._model.train_function

        def run_explained(iterator: Any) -> Any:
            with runtime.explain_stall():
                return run(iterator)

        self._model.train_function = run_explained
        return run_explained

    def _make_unwatched(self, force: bool) -> None:
        if not self._model.jit_compile or runtime.size() == 1:  # Nothing of Horovod's is in it.
            self._make_train_function(force)
            return
        if not self._is_plain:
            raise UserError(
                "XLA cannot compile a train_step that reduces gradients, and a train_step of one's "
                "own cannot be taken apart. Received: jit_compile=True, "
                f"{type(self._model).__name__}.train_step. Compile the model with "
                "jit_compile=False; a part of the step may be a tf.function(jit_compile=True)."
            )
        self._model.jit_compile = False
        try:
            self._make_train_function(force)
        finally:
            self._model.jit_compile = True

    def train_step(self, data: Any) -> Any:
        """One training step, whose gradients count by this rank's samples."""
        self._build(data)
        samples = self._count(data)
        is_split = self._model.jit_compile and self._model.trainable_weights and runtime.size() > 1
        step = self._split_train_step if is_split else self._train_step
        with (
            _after(data),
            local_batch(samples),
            nullcontext() if self.flags is None else self.flags.travelling(),
            self._counted_in_metrics(samples),
            self._without_masks(),
        ):
            return step(data)

    def test_step(self, data: Any) -> Any:
        """One evaluation step."""
        self._build(data)
        with _after(data), self._counted_in_metrics(self._count(data)):
            return self._test_step(data)

    def _split_train_step(self, data: Any) -> Any:
        """Keras's `train_step`, of which XLA compiles the forward and backward pass."""
        model = self._model
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        weights = model.trainable_weights

        @tf.function(jit_compile=True)
        def run_forward_and_backward(x: Any, y: Any, sample_weight: Any) -> Any:
            with tf.GradientTape() as tape:
                y_pred = keras_hooks.call_in_training(model, x)
                loss = keras_hooks.compute_loss_in_training(model, x, y, y_pred, sample_weight)
                scaled = model.optimizer.scale_loss(loss)
            return loss, y_pred, tape.gradient(scaled, weights)

        loss, y_pred, gradients = run_forward_and_backward(x, y, sample_weight)
        keras_hooks.loss_trackers(model)[0].update_state(loss, sample_weight=_batch_size(x))
        model.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _build(self, data: Any) -> None:
        """Makes the variables that the step needs, before its graph is built."""
        with tf.init_scope():
            is_plain = self._is_plain and not self._model.run_eagerly
            if self.when_built or self.num_samples or is_plain:
                keras_hooks.build_for_batch(self._model, data)
            if self.when_built is not None:
                when_built, self.when_built = self.when_built, None
                when_built()

    def _count(self, data: Any) -> tf.Tensor:
        """Returns what this batch's loss is the mean over, as scalar float64."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.num_samples is not None:
            return tf.cast(self.num_samples(x, y, sample_weight), tf.float64)
        rows = tf.cast(_batch_size(x), tf.float64)
        return count_samples(self._model.loss, rows, sample_weight, self._distribution.is_average)

    @property
    def _distribution(self) -> Distribution:
        distribution = distribution_of(self._model.optimizer)
        if distribution is None:
            raise UserError(
                "A prepared model must be compiled with a DistributedOptimizer again. Received: "
                f"optimizer={self._model.optimizer!r}."
            )
        return distribution

    @contextmanager
    def _counted_in_metrics(self, samples: tf.Tensor) -> Iterator[None]:
        """Gives mean losses the weight `samples`, and leaves all metrics as they were if it is 0.

        Keras weighs the mean loss by the size of the batch, and the mean losses of several outputs
        by that or by 1, as it happens to know the size while it builds the graph.
        """
        trackers = keras_hooks.loss_trackers(self._model)
        before = []
        if self.num_samples is not None:
            before = [(v, v.value.read_value()) for m in self._model.metrics for v in m.variables]
        for tracker in trackers:
            update = functools.partial(_update_weighted, tracker.update_state, samples)
            object.__setattr__(tracker, "update_state", update)
        try:
            yield
        finally:
            for tracker in trackers:
                object.__delattr__(tracker, "update_state")
        for variable, value in before:
            variable.assign(tf.where(samples > 0, variable.value, value))

    @contextmanager
    def _without_masks(self) -> Iterator[None]:
        """Refuses a loss over masked outputs unless `num_samples` says what it is the mean over."""
        if self.num_samples is not None or not self._distribution.is_average:
            yield
            return
        model = self._model
        plain_loss = model.compute_loss

        @functools.wraps(plain_loss)
        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            refuse_masked_loss(args[2] if len(args) > 2 else kwargs.get("y_pred"))
            return plain_loss(*args, **kwargs)

        object.__setattr__(model, "compute_loss", compute_loss)
        try:
            yield
        finally:
            object.__delattr__(model, "compute_loss")


def _update_weighted(
    update_state: Callable[..., Any], samples: tf.Tensor, value: Any, sample_weight: Any = None
) -> Any:
    """Stands in for the `update_state` of a mean loss."""
    del sample_weight
    value = tf.convert_to_tensor(value)
    return update_state(value, sample_weight=tf.cast(samples, value.dtype))


def _after(data: Any) -> AbstractContextManager[Any]:
    """Lets nothing within run before there is a batch.

    Keras finds the end of the data by asking for one batch more; counts of a known batch size do
    not depend on the batch, so without this they would be added to the metrics.
    """
    return tf.control_dependencies([leaf for leaf in tf.nest.flatten(data) if leaf is not None])


def _batch_size(x: Any) -> tf.Tensor:
    """Returns the first dimension of the first input, scalar int32."""
    return tf.shape(next(leaf for leaf in tf.nest.flatten(x) if leaf is not None))[0]
