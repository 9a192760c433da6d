"""The mean losses that Keras logs, as means over samples instead of batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from sharedlayers_dist.dist.gradients import keras_hooks


@contextmanager
def counted_in_metrics(
    model: keras.Model, samples: tf.Tensor, *, keeps_without: bool
) -> Iterator[None]:
    """Gives mean losses the weight `samples`, and may leave all metrics as they were if it is 0.

    Keras weighs the mean loss by the size of the batch, and the mean losses of several outputs by
    that or by 1, as it happens to know the size while it builds the graph.

    Args:
        model: The compiled model.
        samples: What the batch's loss is the mean over, scalar.
        keeps_without: Whether a batch without samples leaves the metrics alone.
    """
    trackers = keras_hooks.loss_trackers(model)
    before = []
    if keeps_without:
        before = [(v, v.value.read_value()) for m in model.metrics for v in m.variables]
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


def _update_weighted(
    update_state: Callable[..., Any], samples: tf.Tensor, value: Any, sample_weight: Any = None
) -> Any:
    """Stands in for the `update_state` of a mean loss."""
    del sample_weight
    value = tf.convert_to_tensor(value)
    return update_state(value, sample_weight=tf.cast(samples, value.dtype))
