"""The number of samples that a batch's loss is the mean over: the weight of the rank's gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from sharedlayers_dist.dist.gradients.keras_hooks import has_mask
from sharedlayers_dist.errors import UserError

NumSamples = Callable[[Any, Any, Any], Any]
"""`(x, y, sample_weight) -> scalar`: what the loss of a rank's batch is the mean over."""

_MEANS = {"sum_over_batch_size", "mean"}
_WEIGHTED_MEAN = "mean_with_sample_weight"
_num_samples: ContextVar[tf.Tensor | None] = ContextVar("num_samples", default=None)


def count_samples(loss: Any, rows: tf.Tensor, sample_weight: Any, is_average: bool) -> tf.Tensor:
    """Returns what a batch's loss is the mean over, scalar float64.

    Keras's `sum_over_batch_size` and `mean` divide by the samples (times the elements of each,
    which are as many everywhere); `mean_with_sample_weight` divides by the sum of the weights.

    Args:
        loss: The argument of `model.compile`: a name, a function, a loss, or a structure of these.
        rows: The size of the batch, scalar float64.
        sample_weight: The batch's weights, or None.
        is_average: Whether gradients are averaged; else nothing is weighted, and `rows` will do.

    Raises:
        UserError: if averages of the loss cannot be made exact without being told more.
    """
    if not is_average:
        return rows
    reductions = {
        getattr(one, "reduction", "mean") for one in tf.nest.flatten(loss) if one is not None
    }
    if reductions <= _MEANS:
        return rows
    if reductions == {_WEIGHTED_MEAN}:
        if sample_weight is None:
            return rows
        if not tf.nest.is_nested(sample_weight):
            return tf.reduce_sum(tf.cast(sample_weight, tf.float64))
    if reductions & {"sum", "none", None}:
        raise UserError(
            "A loss that sums over its batch sums over ranks, too. Received: "
            f"reduction={sorted(map(str, reductions))}, op=Average. Use "
            "DistributedOptimizer(..., op=dist.Sum), or a loss that takes the mean."
        )
    raise UserError(
        "Several losses that divide by different counts have no common weight over ranks. "
        f"Received: reduction={sorted(map(str, reductions))}. Give all losses the same reduction, "
        "or say what weighs a rank's batch with prepare(model, num_samples=...)."
    )


def refuse_masked_loss(y_pred: Any) -> None:
    """Raises if the loss will be the mean over what a mask leaves, whose number is not known.

    Raises:
        UserError: if a model's output carries a Keras mask.
    """
    for output in tf.nest.flatten(y_pred):
        if has_mask(output):
            raise UserError(
                "The loss of a masked output is the mean over the elements that the mask leaves, "
                f"whose number differs over ranks. Received: y_pred of shape {output.shape} with "
                "a mask. Count them for prepare(model, num_samples=lambda x, y, sample_weight: "
                "...), e.g. tf.math.count_nonzero(x) where 0 is padding."
            )


def refuse_loss_over_batch(losses: Any) -> None:
    """Raises for a loss that compares the rows of a batch, of which each rank has its own alone.

    Args:
        losses: What a model was compiled with.

    Raises:
        UserError: if a loss says so of itself (`needs_global_batch`).
    """
    for loss in tf.nest.flatten(losses):
        if getattr(loss, "needs_global_batch", False):
            raise UserError(
                "A loss that compares the rows of a batch needs those of all ranks. Received: "
                f"loss={type(loss).__name__}, while each rank has its own rows alone. Train with "
                "it in one process."
            )


@contextmanager
def local_batch(num_samples: Any) -> Iterator[None]:
    """Says that gradients applied within are means over `num_samples` samples of this rank.

    `prepare` does this for `model.fit`. A training loop of one's own wraps the update in it, so
    that the global gradient is the mean over all samples when ranks have batches of unequal size:

        with dist.local_batch(tf.shape(x)[0]):
            optimizer.apply(gradients, model.trainable_variables)

    Args:
        num_samples: Scalar, this rank's count or sum of weights; 0 if none of its samples count.
    """
    token = _num_samples.set(tf.cast(num_samples, tf.float64))
    try:
        yield
    finally:
        _num_samples.reset(token)


def current_num_samples() -> tf.Tensor | None:
    """Returns this rank's number of samples as float64 scalar; None outside of `local_batch`."""
    return _num_samples.get()
