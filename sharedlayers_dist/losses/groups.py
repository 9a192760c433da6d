"""What the rows of a batch are to each other: who is a positive and who a negative for whom."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class Relations(NamedTuple):
    """What each row of a batch is to each other one: booleans, shape (batch, batch) but the first.

    Row i of a tensor holds what the others are to row i.
    """

    is_item: Any
    """Which rows are items at all, shape (batch,)."""
    itself: Any
    """The diagonal: where a row meets itself."""
    positive: Any
    """Other items of the same group."""
    negative: Any
    """Items of other groups, apart from those that share a key."""


def relate(targets: Any) -> Relations:
    """Tells what the rows of a batch are to each other, by their groups and by their keys.

    Rows of a group below 0 are no items: they are positives and negatives of nobody, and have none.
    Rows that share a key hold the same item, so they are no negatives for each other, whatever
    their groups; positives are told by the groups alone.

    Args:
        targets: Integers, shape (batch, 1 + keys): each row's group, and then the keys of its
            items, if any. All keys of a row are compared with all keys of each other row.

    Example:
        >>> found = relate(ops.array([[3], [3], [5], [-1]]))
        >>> found.positive.numpy().sum(1).tolist(), found.negative.numpy().sum(1).tolist()
        ([1, 1, 0, 0], [1, 1, 2, 0])
        >>> found = relate(ops.array([[3, 70], [3, 80], [5, 80], [-1, 70]]))
        >>> found.positive.numpy().sum(1).tolist(), found.negative.numpy().sum(1).tolist()
        ([1, 1, 0, 0], [1, 0, 1, 0])
    """
    groups = targets[:, 0]
    is_item = groups >= 0
    numbers = ops.arange(ops.shape(groups)[0], dtype="int32")
    itself = _equal(numbers, numbers)
    both = ops.logical_and(is_item[:, None], is_item[None, :])
    same_group = _equal(groups, groups)
    positive = ops.logical_and(ops.logical_and(both, same_group), ops.logical_not(itself))
    negative = ops.logical_and(both, ops.logical_not(same_group))
    columns = range(1, targets.shape[1])
    for own, other in ((own, other) for own in columns for other in columns):
        same_item = _equal(targets[:, own], targets[:, other])
        negative = ops.logical_and(negative, ops.logical_not(same_item))
    return Relations(is_item, itself, positive, negative)


def _equal(a: Any, b: Any) -> Any:
    """Which element of `a` equals which of `b`: shape (batch, batch)."""
    return ops.equal(a[:, None], b[None, :])
