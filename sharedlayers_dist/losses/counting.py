"""How many values of a sorted row are below each of many bounds, for all rows at once."""

from __future__ import annotations

from typing import Any

from keras import ops


def count_below(ordered: Any, bounds: Any, *, or_equal: bool = False) -> Any:
    """Counts, row by row, the values that are less than each bound.

    By halving, for all bounds at once: memory is that of the bounds. `keras.ops.searchsorted` takes
    a single row, and XLA compares all values with all bounds for it.

    Args:
        ordered: Floats without NaN, each row in ascending order, shape (rows, values).
        bounds: Floats, shape (rows, bounds).
        or_equal: Whether to count the values that equal the bound, too.

    Returns:
        int32, shape (rows, bounds). It has no gradient.

    Example:
        >>> row = ops.array([[1.0, 2.0, 2.0, 5.0]])
        >>> count_below(row, ops.array([[2.0, 9.0]])).numpy().tolist()
        [[1, 4]]
        >>> count_below(row, ops.array([[2.0, 9.0]]), or_equal=True).numpy().tolist()
        [[3, 4]]
    """
    ordered, bounds = ops.stop_gradient(ordered), ops.stop_gradient(bounds)
    is_below = ops.less_equal if or_equal else ops.less
    length = ops.cast(ops.shape(ordered)[1], "int32")

    def is_unfinished(step: Any, counts: Any) -> Any:
        return step > 0

    def try_more(step: Any, counts: Any) -> tuple[Any, Any]:
        """Adds `step` to each count for which the value that is then the last is still below."""
        more = counts + step
        last = ops.take_along_axis(ordered, ops.minimum(more, length) - 1, axis=1)
        fits = ops.logical_and(more <= length, is_below(last, bounds))
        return step // 2, ops.where(fits, more, counts)

    # The greatest power of two that is no more than the length: what the first step may be.
    step = ops.while_loop(
        lambda step: step <= length // 2,
        lambda step: (step * 2,),
        (ops.ones((), dtype="int32"),),
    )[0]
    counts = ops.zeros(ops.shape(bounds), dtype="int32")
    return ops.while_loop(is_unfinished, try_more, (step, counts))[1]
