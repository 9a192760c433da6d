"""The number of samples that a batch's loss is the mean over: the weight of the rank's gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from sharedlayers_dist.dist.gradients.keras_hooks import has_mask
from sharedlayers_dist.errors import UserError

NumSamples = Callable[[Any, Any, Any], Any]
"""`(x, y, sample_weight) -> scalar`: what the loss of a rank's batch is the mean over."""

_MEANS = {"sum_over_batch_size", "mean"}
_WEIGHTED_MEAN = "mean_with_sample_weight"


class _Batch(NamedTuple):
    num_samples: tf.Tensor
    is_average: bool


_batch: ContextVar[_Batch | None] = ContextVar("batch", default=None)


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


@contextmanager
def without_masks(model: keras.Model) -> Iterator[None]:
    """Refuses a loss that is the mean over what a mask leaves, whose number is not known.

    Raises:
        UserError: within, if an output carries a Keras mask.
    """
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


def refuse_masked_loss(y_pred: Any) -> None:
    """Raises if the loss will be the mean over what a mask leaves, whose number is not known.

    Raises:
        UserError: if an output carries a Keras mask.
    """
    for output in tf.nest.flatten(y_pred):
        if has_mask(output):
            raise UserError(
                "The loss of a masked output is the mean over the elements that the mask leaves, "
                f"whose number differs over ranks. Received: y_pred of shape {output.shape} with "
                "a mask. Count them for prepare(model, num_samples=lambda x, y, sample_weight: "
                "...), e.g. tf.math.count_nonzero(x) where 0 is padding."
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
    with counted_batch(num_samples, is_average=True):
        yield


@contextmanager
def counted_batch(num_samples: Any, *, is_average: bool) -> Iterator[None]:
    """Says how many samples this rank's batch has, and whether gradients are weighted by them."""
    token = _batch.set(_Batch(tf.cast(num_samples, tf.float64), is_average))
    try:
        yield
    finally:
        _batch.reset(token)


def current_num_samples() -> tf.Tensor | None:
    """Returns this rank's number of samples as float64 scalar; None outside of `local_batch`."""
    batch = _batch.get()
    return None if batch is None else batch.num_samples


def current_gradient_weight() -> tf.Tensor | None:
    """Returns what this rank's gradients will be weighted by; None where all ranks count alike."""
    batch = _batch.get()
    return batch.num_samples if batch is not None and batch.is_average else None
