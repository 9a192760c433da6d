"""Items in chunks of like length, each with the steps that it needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

_ROWS, _ROWS_OF_FEW, _FEW = 32, 16, 128
"""Items of a chunk: the most, and those where there are few items, which chunks fit better then."""
_MOST_LENGTHS = 16
"""Different numbers of steps of a chunk, each of which XLA compiles programs for."""


class Chunks(NamedTuple):
    """Items by their length, the longest first; chunk i is the rows from `i * rows` on."""

    ids: tf.Tensor
    """`(count * rows, T)`, int32; rows of zeros at the end make the last chunk whole."""
    rows: tf.Tensor
    """Items of a chunk, scalar int32."""
    steps: tf.Tensor
    """How many of the last steps each chunk runs, `(count,)`, int32."""
    order: tf.Tensor
    """The place of each row among the items, `(items,)`, int32."""

    @property
    def count(self) -> tf.Tensor:
        """How many chunks there are, scalar int32."""
        return tf.shape(self.steps)[0]

    def take(self, number: tf.Tensor) -> tf.Tensor:
        """The ids of a chunk's steps, `(rows, steps)`."""
        return self.take_rows(self.ids, number)[:, self.ids.shape[1] - self.steps[number] :]

    def take_rows(self, values: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        """The rows of a chunk, of what `sort` gave."""
        return values[number * self.rows : (number + 1) * self.rows]

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
        >>> chunks = cut_into_chunks(tf.constant([[0, 0, 3, 0], [0, 0, 0, 0], [1, 0, 0, 2]]))
        >>> chunks.order.numpy().tolist(), chunks.steps.numpy().tolist()
        ([2, 0, 1], [4])
    """
    length = ids.shape[1]
    number_from_end = tf.range(length, 0, -1)
    needed = tf.reduce_max(tf.where(ids == 0, 0, number_from_end), axis=1)
    order = tf.argsort(needed, direction="DESCENDING", stable=True)
    num_items = tf.shape(ids)[0]
    rows = tf.where(num_items <= _FEW, _ROWS_OF_FEW, _ROWS)
    missing = -num_items % rows
    multiple = -(-length // _MOST_LENGTHS)
    longest = tf.gather(needed, order[::rows])
    steps = tf.clip_by_value(-(-longest // multiple) * multiple, min(multiple, length), length)
    ids = tf.pad(tf.gather(ids, order), [[0, missing], [0, 0]])
    return Chunks(ids, rows, steps, order)


def move_to_end(ids: tf.Tensor) -> tf.Tensor:
    """The ids that are not 0, in their order, after all zeros, `(items, T)`.

    Example:
        >>> move_to_end(tf.constant([[0, 3, 0, 1], [5, 0, 0, 0]])).numpy().tolist()
        [[0, 0, 3, 1], [0, 0, 0, 5]]
    """
    order: Any = tf.argsort(tf.cast(ids != 0, tf.int32), axis=1, stable=True)
    return tf.gather(ids, order, batch_dims=1)
