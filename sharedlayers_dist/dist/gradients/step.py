"""`prepare`: makes a model's own `fit` tell the optimizer how many samples each batch has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.gradients import keras_hooks
from sharedlayers_dist.dist.gradients.global_loss import needs_global_batch, over_all_ranks
from sharedlayers_dist.dist.gradients.loss_metrics import counted_in_metrics
from sharedlayers_dist.dist.gradients.mini_batches import StepResult, run_in_mini_batches
from sharedlayers_dist.dist.gradients.optimizer import Distribution, distribution_of
from sharedlayers_dist.dist.gradients.rows import make_dense_on_gpu
from sharedlayers_dist.dist.gradients.sample_counts import (
    NumSamples,
    count_samples,
    counted_batch,
    without_masks,
)
from sharedlayers_dist.dist.gradients.step_flags import StepFlags
from sharedlayers_dist.errors import UserError

_ATTRIBUTE = "_sharedlayers_dist_step"


def prepare(
    model: keras.Model,
    num_samples: NumSamples | None = None,
    *,
    flags: StepFlags | None = None,
    mini_batch_size: int | None = None,
) -> keras.Model:
    """Makes `model.fit` exact over ranks with unequal batches, and lets XLA compile it.

    `BroadcastInitialState` calls this by itself. It may be called again, to give one of the
    options; the others stay as they are. With one rank it does nothing, unless `num_samples` is
    given, so that the loss logged is the mean over these, as it is with several; or the optimizer
    accumulates gradients, which it weighs by their samples; or there are mini-batches.

    A loss that compares the rows of a batch, which says so by its attribute `needs_global_batch`,
    is computed from the outputs, targets and weights of all ranks, in training and evaluation: it
    is that of one process with the global batch. So all ranks evaluate with it together.

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
        mini_batch_size: Rows of a rank's batch that the model works on at a time, while the loss is
            still that of the whole batch; see `mini_batches`. Memory is then a matter of this
            number, and a step takes one more forward pass.

    Returns:
        The same model.

    Raises:
        UserError: if the model's optimizer is not distributed, or `mini_batch_size` is below 1.
    """
    is_distributed = distribution_of(getattr(model, "optimizer", None)) is not None
    is_plain = num_samples is None and mini_batch_size is None
    if runtime.size() == 1 and is_plain and not is_distributed:
        return model
    _check_options(model, mini_batch_size)
    step = prepared_step(model)
    if step is None:
        step = PreparedStep(model)
        object.__setattr__(model, _ATTRIBUTE, step)
    step.num_samples = num_samples or step.num_samples
    step.flags = flags or step.flags
    step.mini_batch_size = mini_batch_size or step.mini_batch_size
    model.train_function = None
    model.test_function = None
    return model


def _check_options(model: keras.Model, mini_batch_size: int | None) -> None:
    """Raises UserError for what `prepare` cannot prepare."""
    if mini_batch_size is not None and mini_batch_size < 1:
        raise UserError(
            f"`mini_batch_size` must be at least 1. Received: mini_batch_size={mini_batch_size}."
        )
    optimizer = getattr(model, "optimizer", None)
    if runtime.size() > 1 and distribution_of(optimizer) is None:
        raise UserError(
            "`model` must be compiled with a DistributedOptimizer. Received: optimizer="
            f"{optimizer!r}. Use model.compile(optimizer=dist.DistributedOptimizer(...), ...)."
        )


def prepared_step(model: keras.Model) -> PreparedStep | None:
    """Returns what `prepare` attached to the model, or None."""
    return model.__dict__.get(_ATTRIBUTE)


class PreparedStep:
    """Stands in for a model's `train_step`, `test_step` and `make_train_function`."""

    def __init__(self, model: keras.Model) -> None:
        self.num_samples: NumSamples | None = None
        self.flags: StepFlags | None = None
        self.mini_batch_size: int | None = None
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
        self._refuse_what_cannot_be()
        self._make_unwatched(force)
        run = self._model.train_function

        def run_explained(iterator: Any) -> Any:
            with runtime.explain_stall():
                return run(iterator)

        self._model.train_function = run_explained
        return run_explained

    def _refuse_what_cannot_be(self) -> None:
        """Raises UserError for a step that cannot be taken apart, or a loss that is no average."""
        distribution = self._distribution
        is_of_all = distribution is not None and len(distribution.ranks) == runtime.size()
        if self._needs_global_batch and not (self._is_average and is_of_all):
            raise UserError(
                "A loss over the global batch is the same on all ranks, which are averaged. "
                f"Received: loss={self._model.loss}, with another op or a process_set. Use "
                "DistributedOptimizer(optimizer), which averages over all ranks."
            )
        if self._is_plain or not (self._is_compiled_in_parts or self.mini_batch_size):
            return
        option = "mini_batch_size" if self.mini_batch_size else "jit_compile=True"
        raise UserError(
            "A train_step of one's own cannot be taken apart, as mini-batches and XLA need it, "
            "which cannot compile the reduction of gradients. Received: "
            f"{option}, {type(self._model).__name__}.train_step. Compile the model with "
            "jit_compile=False and leave mini-batches out; a part of the step may be a "
            "tf.function(jit_compile=True)."
        )

    @property
    def _is_compiled_in_parts(self) -> bool:
        """Whether XLA is to compile the model's passes alone, and not what is between them."""
        is_cut = self.mini_batch_size is not None or needs_global_batch(self._model)
        return bool(self._model.jit_compile) and (is_cut or runtime.size() > 1)

    @property
    def _needs_global_batch(self) -> bool:
        """Whether the loss is computed from the rows of all ranks."""
        return runtime.size() > 1 and needs_global_batch(self._model)

    def _make_unwatched(self, force: bool) -> None:
        if not self._is_compiled_in_parts:
            self._make_train_function(force)
            return
        self._model.jit_compile = False
        try:
            self._make_train_function(force)
        finally:
            self._model.jit_compile = True

    def train_step(self, data: Any) -> Any:
        """One training step, whose gradients count by this rank's samples."""
        self._build(data)
        samples = self._count(data)
        is_split = self._is_compiled_in_parts or self.mini_batch_size is not None
        step = self._split_train_step if is_split else self._train_step
        with (
            _after(data),
            counted_batch(samples, is_average=self._is_average),
            nullcontext() if self.flags is None else self.flags.travelling(),
            self._counted_in_metrics(samples),
            self._over_all_ranks(samples) or self._without_masks(),
        ):
            return step(data)

    def test_step(self, data: Any) -> Any:
        """One evaluation step."""
        self._build(data)
        samples = self._count(data)
        over_all = self._over_all_ranks(samples) or nullcontext()
        with _after(data), self._counted_in_metrics(samples), over_all:
            return self._test_step(data)

    def _over_all_ranks(self, samples: tf.Tensor) -> AbstractContextManager[None] | None:
        return over_all_ranks(self._model, samples) if self._needs_global_batch else None

    def _without_masks(self) -> AbstractContextManager[None]:
        is_counted = self.num_samples is not None or not self._is_average
        return nullcontext() if is_counted else without_masks(self._model)

    def _counted_in_metrics(self, samples: tf.Tensor) -> AbstractContextManager[None]:
        is_to_keep = self.num_samples is not None
        return counted_in_metrics(self._model, samples, keeps_without=is_to_keep)

    def _split_train_step(self, data: Any) -> Any:
        """Keras's `train_step`, taken apart."""
        model = self._model
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        weights = model.trainable_weights
        if not weights:
            return self._train_step(data)  # Keras says that there is nothing to train.
        if self.mini_batch_size is not None or needs_global_batch(model):
            size = self.mini_batch_size
            result = run_in_mini_batches(model, x, y, sample_weight, size=size)
        else:
            result = self._run_compiled(x, y, sample_weight)
        trackers = keras_hooks.loss_trackers(model)
        trackers[0].update_state(result.loss, sample_weight=_batch_size(x))
        model.optimizer.apply_gradients(zip(result.gradients, weights, strict=True))
        return model.compute_metrics(x, y, result.y_pred, sample_weight=sample_weight)

    def _run_compiled(self, x: Any, y: Any, sample_weight: Any) -> StepResult:
        """Forward pass, loss and backward pass, compiled by XLA as one."""
        model = self._model

        @tf.function(jit_compile=True)
        def run_forward_and_backward(x: Any, y: Any, sample_weight: Any) -> StepResult:
            with tf.GradientTape() as tape:
                y_pred = keras_hooks.call_in_training(model, x)
                loss = keras_hooks.compute_loss_in_training(model, x, y, y_pred, sample_weight)
                scaled = model.optimizer.scale_loss(loss)
            gradients = make_dense_on_gpu(tape.gradient(scaled, model.trainable_weights))
            return StepResult(loss, y_pred, gradients)

        return StepResult(*run_forward_and_backward(x, y, sample_weight))

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
        if self._needs_global_batch:
            return rows  # Items without a weight are others' negatives, and have gradients.
        return count_samples(self._model.loss, rows, sample_weight, self._is_average)

    @property
    def _distribution(self) -> Distribution | None:
        """How the optimizer is distributed; None where one rank has nothing to reduce."""
        distribution = distribution_of(self._model.optimizer)
        if distribution is None and runtime.size() > 1:
            raise UserError(
                "A prepared model must be compiled with a DistributedOptimizer again. Received: "
                f"optimizer={self._model.optimizer!r}."
            )
        return distribution

    @property
    def _is_average(self) -> bool:
        distribution = self._distribution
        return distribution is None or distribution.is_average


def _after(data: Any) -> AbstractContextManager[Any]:
    """Lets nothing within run before there is a batch.

    Keras finds the end of the data by asking for one batch more; counts of a known batch size do
    not depend on the batch, so without this they would be added to the metrics.
    """
    return tf.control_dependencies([leaf for leaf in tf.nest.flatten(data) if leaf is not None])


def _batch_size(x: Any) -> tf.Tensor:
    """Returns the first dimension of the first input, scalar int32."""
    return tf.shape(next(leaf for leaf in tf.nest.flatten(x) if leaf is not None))[0]
