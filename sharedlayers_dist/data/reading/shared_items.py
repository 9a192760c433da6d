"""Pairs that name their items, where a batch has each different item once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_MOST_SIZES = 16
"""Different numbers of items that batches of one number of pairs are padded to."""


class SharedItems(NamedTuple):
    """The different items of a batch, and which of them each pair is of."""

    items: NDArray
    """In the order in which they come first, `(items, *shape)`; zeros at the end are padding, so
    that batches have few different sizes."""
    a: NDArray[np.int32]
    """Place of each pair's first item, shape `(pairs,)`."""
    b: NDArray[np.int32]
    """Place of each pair's second item, shape `(pairs,)`."""


def make_inputs(a: NDArray, b: NDArray, *, shares_items: bool) -> dict[str, NDArray]:
    """What a model takes of a batch of pairs: both sides, or the different items if it takes them.

    Sides of different shapes or types share no items.
    """
    if shares_items and (a.shape, a.dtype) == (b.shape, b.dtype):
        return share_items(a, b)._asdict()
    return {"a": a, "b": b}


def share_items(a: NDArray, b: NDArray) -> SharedItems:
    """Takes each item of both sides once; items are the same if a model gets the same of them.

    Args:
        a: The items of the one side, encoded, `(pairs, *shape)`.
        b: Those of the other side, of the same shape and type.

    Example:
        >>> shared = share_items(np.array([[1, 2], [3, 4]]), np.array([[3, 4], [3, 4]]))
        >>> shared.items[:2].tolist(), shared.a.tolist(), shared.b.tolist()
        ([[1, 2], [3, 4]], [0, 1], [1, 1])
    """
    both = np.concatenate([a, b])
    width = both.itemsize * int(np.prod(both.shape[1:]))
    rows = pa.Array.from_buffers(
        pa.binary(width), len(both), [None, pa.py_buffer(np.ascontiguousarray(both))]
    )
    numbers = rows.dictionary_encode().indices.to_numpy()
    _, first = np.unique(numbers, return_index=True)
    multiple = -(-len(both) // _MOST_SIZES)
    items = np.zeros((-(-first.size // multiple) * multiple, *both.shape[1:]), both.dtype)
    items[: first.size] = both[first]
    return SharedItems(items, *np.split(numbers.astype(np.int32, copy=False), 2))
