"""A batch's rows against all of its rows, a block of them at a time, in the memory of a block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

ENTRIES = 2**20
"""Of a block's matrices, at most: batches of up to 1,024 rows are one block."""


class Block(NamedTuple):
    """Consecutive rows of a batch."""

    start: Any
    """The number of its first row."""
    num_rows: Any
    is_new: Any
    """Which of its rows were in no block before it, shape (rows,)."""

    @property
    def places(self) -> Any:
        """The numbers of its rows in the batch, shape (rows,)."""
        return self.start + ops.arange(self.num_rows, dtype="int32")

    def take(self, values: Any) -> Any:
        """Its rows of an array of the whole batch, `(batch, ...)` to `(rows, ...)`."""
        rest = ops.shape(values)[1:]
        return ops.slice(values, (self.start, *(0 for _ in rest)), (self.num_rows, *rest))


def fold_blocks(
    compute: Callable[..., Any],
    combine: Callable[[Any, Any], Any],
    initial: Any,
    *arrays: Any,
) -> Any:
    """Combines what is computed of each block of a batch, whose matrices are (rows, batch).

    A block has so many rows that `rows * batch` is at most `ENTRIES`. The first one is kept for the
    gradient, so that a batch of one block is computed once. Of the others nothing is kept: each is
    computed once more for its gradient. So memory, with the gradient, is that of two blocks, and of
    `arrays`.

    All but the first have as many rows, so the last begins with rows that were in another already,
    if need be; `Block.is_new` says which.

    Args:
        compute: Of a block and `arrays`, a tensor in the shape and the dtype of `initial`. What it
            has gradients by must be in `arrays`.
        combine: Of what is combined so far, and what comes next, the same.
        initial: What is combined with the first.
        *arrays: Of the whole batch, shape (batch, ...).

    Example:
        >>> def compute(block, x):
        ...     return ops.sum(ops.where(block.is_new, block.take(x) * ops.max(x), 0.0))
        >>> float(fold_blocks(compute, ops.add, 0.0, ops.array([1.0, 2.0, 3.0])))
        18.0
    """
    batch = ops.shape(arrays[0])[0]
    num_blocks = _at_least_one(_ceil_divide(batch, _at_least_one(ENTRIES // _at_least_one(batch))))
    num_first = _ceil_divide(batch, num_blocks)
    first = Block(0, num_first, ops.ones((num_first,), dtype="bool"))
    folded = combine(initial, compute(first, *arrays))
    if isinstance(num_blocks, int) and num_blocks == 1:
        return folded
    # None if there is one block: XLA computes a loop of no rounds, apart from what changes in it.
    num_rows = _ceil_divide(batch - num_first, _at_least_one(num_blocks - 1))

    def fold_next(number: Any, folded: Any) -> tuple[Any, Any]:
        begin = num_first + (number - 1) * num_rows
        start = ops.minimum(begin, batch - num_rows)
        block = Block(start, num_rows, start + ops.arange(num_rows, dtype="int32") >= begin)
        value = keras.remat(functools.partial(compute, block))(*arrays)
        return number + 1, combine(folded, value)

    return ops.while_loop(
        lambda number, _: number < num_blocks,
        fold_next,
        (ops.ones((), dtype="int32"), folded),
        maximum_iterations=num_blocks,  # XLA makes room for what so many leave.
    )[1]


def _ceil_divide(a: Any, b: Any) -> Any:
    return (a + b - 1) // b


def _at_least_one(number: Any) -> Any:
    """Where the batch is of a known size, its numbers stay Python's."""
    return max(number, 1) if isinstance(number, int) else ops.maximum(number, 1)
