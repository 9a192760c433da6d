"""What the rows of a batch are to each other: who is a positive and who a negative for whom."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class Relations(NamedTuple):
    """What the items of a batch are to some of them, the anchors: booleans, by anchors and items.

    Shape (anchors, batch), but for the first. Row i of a tensor holds what each row of the batch is
    to anchor i.
    """

    is_item: Any
    """Which anchors are items at all, shape (anchors,)."""
    itself: Any
    """Where an anchor meets itself."""
    positive: Any
    """Other items of the same group."""
    negative: Any
    """Items of other groups, apart from those that share a key."""


def relate(anchors: Any, items: Any, places: Any) -> Relations:
    """Tells what the rows of a batch are to some of them, by their groups and by their keys.

    Rows of a group below 0 are no items: they are positives and negatives of nobody, and have none.
    Rows that share a key hold the same item, so they are no negatives for each other, whatever
    their groups; positives are told by the groups alone.

    Args:
        anchors: The rows of `items` that are anchors, shape (anchors, 1 + keys).
        items: Integers, shape (batch, 1 + keys): each row's group, and then the keys of its items,
            if any. All keys of a row are compared with all keys of each other row.
        places: The anchors' row numbers in `items`, shape (anchors,).

    Example:
        >>> targets = ops.array([[3], [3], [5], [-1]])
        >>> found = relate(targets, targets, ops.arange(4))
        >>> found.positive.numpy().sum(1).tolist(), found.negative.numpy().sum(1).tolist()
        ([1, 1, 0, 0], [1, 1, 2, 0])
        >>> targets = ops.array([[3, 70], [3, 80], [5, 80], [-1, 70]])
        >>> found = relate(targets, targets, ops.arange(4))
        >>> found.positive.numpy().sum(1).tolist(), found.negative.numpy().sum(1).tolist()
        ([1, 1, 0, 0], [1, 0, 1, 0])
        >>> found = relate(targets[1:3], targets, ops.array([1, 2]))
        >>> found.itself.numpy().astype(int).tolist()
        [[0, 1, 0, 0], [0, 0, 1, 0]]
    """
    is_item = anchors[:, 0] >= 0
    itself = _equal(places, ops.arange(ops.shape(items)[0], dtype=places.dtype))
    both = ops.logical_and(is_item[:, None], items[None, :, 0] >= 0)
    same_group = _equal(anchors[:, 0], items[:, 0])
    positive = ops.logical_and(ops.logical_and(both, same_group), ops.logical_not(itself))
    negative = ops.logical_and(both, ops.logical_not(same_group))
    columns = range(1, items.shape[1])
    for own, other in ((own, other) for own in columns for other in columns):
        same_item = _equal(anchors[:, own], items[:, other])
        negative = ops.logical_and(negative, ops.logical_not(same_item))
    return Relations(is_item, itself, positive, negative)


def _equal(a: Any, b: Any) -> Any:
    """Which element of `a` equals which of `b`: shape (len(a), len(b))."""
    return ops.equal(a[:, None], b[None, :])
