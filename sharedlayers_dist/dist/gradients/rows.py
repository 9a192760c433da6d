"""Gradients of single rows, as embeddings have them: on a GPU they are made dense."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def make_dense_on_gpu(gradients: Sequence[Any]) -> list[Any]:
    """Makes `tf.IndexedSlices` dense where TensorFlow sees a GPU, and leaves all else as it is.

    Rows of one index are added up in any order there, so that ranks that each add up the same rows
    drift apart. And rows should not leave a function that XLA compiles: of one that did, the
    shape, which TensorFlow takes for the host's as it does all 32-bit integers, was garbage.

    Args:
        gradients: Tensors, `tf.IndexedSlices` or None.

    Returns:
        The same gradients in the same order, None where None was.
    """
    if not sees_gpu():
        return list(gradients)
    return [g if g is None else tf.convert_to_tensor(g) for g in gradients]


def sees_gpu() -> bool:
    """Whether TensorFlow sees a GPU that it may use."""
    return bool(tf.config.get_visible_devices("GPU"))


class WithDenseRows:
    """Mixed in before the class of an optimizer of a single process on a GPU.

    Keras squares each row by itself, and not the sum of those of one index: without this, Adam and
    its like would make other updates in one process than on several ranks, whose rows are dense.
    """

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        """Applies gradients, rows as dense ones."""
        super().apply(make_dense_on_gpu(grads), trainable_variables)  # type: ignore[misc]
