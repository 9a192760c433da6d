"""How many samples a rank's gradient is the mean of, as told by the step that computes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

_num_samples: ContextVar[tf.Tensor | None] = ContextVar("num_samples", default=None)


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
    """Returns this rank's number of samples as float64 scalar; None if nobody has said it."""
    return _num_samples.get()
