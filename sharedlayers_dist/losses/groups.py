"""Which rows of a batch are of one group: who is a positive and who a negative for whom."""

from __future__ import annotations

from typing import Any

from keras import ops


def positives_and_negatives(groups: Any) -> tuple[Any, Any]:
    """Tells for each row which other rows have its group, and which have another.

    Rows below 0 are no items: they are positives and negatives of nobody, and have none.

    Args:
        groups: The group of each row, shape (batch,).

    Returns:
        Two boolean tensors of shape (batch, batch): row i's positives, itself not among them, and
        row i's negatives.

    Example:
        >>> positive, negative = positives_and_negatives(ops.array([3, 3, 5, -1]))
        >>> positive.numpy().sum(1).tolist(), negative.numpy().sum(1).tolist()
        ([1, 1, 0, 0], [1, 1, 2, 0])
    """
    both = ops.logical_and(groups[:, None] >= 0, groups[None, :] >= 0)
    same = ops.equal(groups[:, None], groups[None, :])
    other_row = ops.logical_not(diagonal(groups))
    positive = ops.logical_and(ops.logical_and(both, same), other_row)
    return positive, ops.logical_and(both, ops.logical_not(same))


def diagonal(rows: Any) -> Any:
    """The boolean tensor of shape (batch, batch) that is true where a row meets itself.

    Args:
        rows: A tensor of shape (batch, ...).

    Example:
        >>> diagonal(ops.ones(2)).numpy().tolist()
        [[True, False], [False, True]]
    """
    numbers = ops.arange(ops.shape(rows)[0], dtype="int32")
    return ops.equal(numbers[:, None], numbers[None, :])
