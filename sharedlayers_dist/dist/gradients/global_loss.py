"""Losses that compare the rows of a batch: computed from the rows of all ranks, on each of them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from sharedlayers_dist.dist.gradients.gathering import RowsOfRanks
from sharedlayers_dist.dist.gradients.keras_hooks import has_mask
from sharedlayers_dist.errors import UserError


def needs_global_batch(model: keras.Model) -> bool:
    """Whether each row's part of a model's loss depends on the other rows of the batch.

    Losses say so by an attribute of this name; and so does a model whose own `compute_loss`
    compares rows.

    Args:
        model: A compiled model.

    Raises:
        UserError: for losses of which only some do, since a rank's rows have one weight.
    """
    if getattr(model, "needs_global_batch", False):
        return True
    losses = [loss for loss in tf.nest.flatten(model.loss) if loss is not None]
    flags = {bool(getattr(loss, "needs_global_batch", False)) for loss in losses}
    if flags == {True, False}:
        names = [getattr(loss, "name", loss) for loss in losses]
        raise UserError(
            "Losses that compare the rows of a batch do not go together with losses of single "
            f"rows. Received: loss={names}. Give all outputs losses of one kind."
        )
    return flags == {True}


@contextmanager
def over_all_ranks(model: keras.Model, samples: tf.Tensor) -> Iterator[None]:
    """Lets the model compute its loss from the outputs and targets of all ranks.

    Every rank computes the same loss, and each has the gradient by its own outputs; scaled so that
    the mean over ranks, weighted by samples, is that of one process with all rows. What the loss
    has beside (regularizers of weights) is in that mean once.

    Args:
        model: The compiled model.
        samples: This rank's number of samples; 0 if it has none but padding, scalar float64.
    """
    plain_loss = model.compute_loss

    @functools.wraps(plain_loss)
    def compute_loss(
        x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **options: Any
    ) -> Any:
        if any(has_mask(output) for output in tf.nest.flatten(y_pred)):
            raise UserError(
                "A loss over the global batch takes outputs without a mask. Received: "
                f"y_pred={y_pred}, which has one. End the encoder with a layer that gives one "
                "vector for each item."
            )
        rows = RowsOfRanks(tf.shape(tf.nest.flatten(y_pred)[0])[0], samples, is_same_loss=True)
        gathered = [
            tf.nest.map_structure(lambda t: None if t is None else rows.gather(t), part)
            for part in (y, y_pred, sample_weight)
        ]
        return plain_loss(x, *gathered, **options)

    object.__setattr__(model, "compute_loss", compute_loss)
    try:
        yield
    finally:
        object.__delattr__(model, "compute_loss")
