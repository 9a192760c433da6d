"""Items in chunks of like length, each with the steps that it needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

ROWS = 24
"""Items of a chunk."""
_LENGTHS = 5
"""Different lengths of chunks, each of which XLA compiles programs for."""


class Chunks(NamedTuple):
    """Items by their length, the longest first; chunk i is the rows from `i * ROWS` on."""

    ids: tf.Tensor
    """`(count * ROWS, T)`, int32; rows of zeros at the end make the last chunk whole."""
    steps: tf.Tensor
    """How many of the last steps each chunk runs, `(count,)`, int32."""
    order: tf.Tensor
    """The place of each row among the items, `(items,)`, int32."""

    @property
    def count(self) -> tf.Tensor:
        """How many chunks there are, scalar int32."""
        return tf.shape(self.steps)[0]

    def take(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The ids of a chunk, `(ROWS, length)`, and how many of the first are not run."""
        rows = self.ids[number * ROWS :][:ROWS]
        longest, steps = self.ids.shape[1], self.steps[number]
        multiple = -(-longest // _LENGTHS)
        length = tf.minimum(-(-steps // multiple) * multiple, longest)
        return tf.ensure_shape(rows[:, longest - length :], (ROWS, None)), length - steps

    def sort(self, values: tf.Tensor) -> tf.Tensor:
        """One row for each item, in the order of the chunks, with rows of zeros at the end."""
        missing = tf.shape(self.ids)[0] - tf.shape(values)[0]
        return tf.pad(tf.gather(values, self.order), [[0, missing], [0, 0]])

    def restore(self, values: tf.Tensor) -> tf.Tensor:
        """One row for each row of the chunks, in the order of the items."""
        return tf.gather(values, tf.argsort(self.order))


def cut_into_chunks(ids: tf.Tensor) -> Chunks:
    """Cuts items into chunks; what an item needs begins with its first id that is not 0.

    Args:
        ids: `(items, T)`, int32.

    Example:
        >>> chunks = cut_into_chunks(tf.constant([[0, 0, 3, 0], [0, 0, 0, 0], [0, 1, 0, 2]]))
        >>> chunks.order.numpy().tolist(), chunks.steps.numpy().tolist()
        ([2, 0, 1], [3])
    """
    number_from_end = tf.range(ids.shape[1], 0, -1)
    needed = tf.reduce_max(tf.where(ids == 0, 0, number_from_end), axis=1)
    order = tf.argsort(needed, direction="DESCENDING", stable=True)
    missing = -tf.shape(ids)[0] % ROWS
    steps = tf.maximum(tf.gather(needed, order[::ROWS]), 1)
    return Chunks(tf.pad(tf.gather(ids, order), [[0, missing], [0, 0]]), steps, order)


def move_to_end(ids: tf.Tensor) -> tf.Tensor:
    """The ids that are not 0, in their order, after all zeros, `(items, T)`.

    Example:
        >>> move_to_end(tf.constant([[0, 3, 0, 1], [5, 0, 0, 0]])).numpy().tolist()
        [[0, 0, 3, 1], [0, 0, 0, 5]]
    """
    order: Any = tf.argsort(tf.cast(ids != 0, tf.int32), axis=1, stable=True)
    return tf.gather(ids, order, batch_dims=1)
