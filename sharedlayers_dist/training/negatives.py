"""Finding the items that each item is hardest to tell from (pure functions)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.training.retrieval import at_length_one

_COSINES_AT_ONCE = 2**22
"""Of a block of queries with all items; some 25 bytes each, so that a block takes 100 MiB."""

_MOST_QUERIES = 256
"""At once: so that ranks have something to share of a few thousand items, too."""
_RUN = 64
"""Items next to each other of which the nearest one is looked at first."""


class Window(NamedTuple):
    """How near a negative may be: nearer items are likely to be no negatives at all."""

    max_cosine: float
    """The largest cosine."""
    margin: float | None = None
    """What it must at least be below that of the nearest positive; None for any."""


class Negatives(NamedTuple):
    """The negatives of some items."""

    items: NDArray[np.int32]
    """Their places, the nearest first, `(queries, N)`; -1 for none."""
    cosines: NDArray[np.float32]
    """How near they are, `(queries, N)`; NaN for none."""


class Candidates(NamedTuple):
    """The items that are searched."""

    unit: NDArray[np.float32]
    """Distinct encodings of length 1, `(distinct, D)`."""
    of_item: Rows
    """Number of each item's encoding, `(items,)`."""
    group: Rows
    """Number of each item's group, `(items,)`."""
    key: NDArray[np.integer]
    """A number for each item's content, the same for items that count as equal, `(items,)`."""


def make_candidates(
    encodings: NDArray[np.floating], of_item: Rows, group: Rows, key: NDArray[np.integer]
) -> Candidates:
    """The items with their encodings, finite and `(distinct, D)`, scaled to length 1."""
    unit = at_length_one(encodings.astype(np.float64)).astype(np.float32)
    return Candidates(unit, of_item, group, key)


def cut_queries(num_items: int) -> list[Rows]:
    """All items in blocks that are searched for at once, so that memory is bounded.

    A matrix product may round differently in other blocks: whoever shares the work out to several
    ranks gives each of them whole blocks.
    """
    at_once = min(max(_COSINES_AT_ONCE // max(num_items, 1), 1), _MOST_QUERIES)
    return [
        np.arange(start, min(start + at_once, num_items)) for start in range(0, num_items, at_once)
    ]


def find_negatives(candidates: Candidates, queries: Rows, count: int, window: Window) -> Negatives:
    """Finds, by all cosines, the nearest items of another group and another content.

    Items of one cosine are in the order of their places. An item without a positive of other
    content has no nearest one, and its negatives need only keep to the largest cosine.

    Args:
        candidates: The items.
        queries: The places of those whose negatives are looked for; a block of `cut_queries`.
        count: N, the most negatives of an item.
        window: How near they may be.

    Example:
        >>> encodings = np.array([[1, 0], [0.96, 0.28], [0.8, 0.6], [0.6, 0.8], [1, 0.001]])
        >>> group = np.array([0, 0, 1, 1, 2])
        >>> candidates = make_candidates(encodings, np.arange(5), group, np.arange(5))
        >>> find_negatives(candidates, np.array([0]), 2, Window(0.99)).items
        array([[2, 3]], dtype=int32)
        >>> find_negatives(candidates, np.array([0]), 2, Window(0.99, 0.2)).items
        array([[ 3, -1]], dtype=int32)
    """
    unit, of_item, group, key = candidates
    cosines = (unit[of_item[queries]] @ unit.T)[:, of_item]
    np.minimum(cosines, 1, out=cosines)  # Rounding may go beyond.
    is_own = group[queries, None] == group
    is_equal = key[queries, None] == key
    most = np.full((queries.size, 1), window.max_cosine, np.float32)
    if window.margin is not None:
        positive = np.where(is_own & ~is_equal, cosines, -np.inf).max(axis=1, keepdims=True)
        bound = np.where(np.isfinite(positive), positive - np.float32(window.margin), np.inf)
        most = np.minimum(most, bound.astype(np.float32))
    cosines[is_own | is_equal | (cosines > most)] = -np.inf
    return _take_largest(cosines, count)


def _take_largest(cosines: NDArray[np.float32], count: int) -> Negatives:
    """The places of the largest finite values of each row, the first ones of equal ones first."""
    num_rows, num_items = cosines.shape
    # At least as many are no less than the largest of so many runs; and few more are.
    largest = np.maximum.reduceat(cosines, np.arange(0, num_items, _RUN), axis=1)
    least = np.full((num_rows, 1), np.finfo(np.float32).min)
    if (num_runs := largest.shape[1]) >= count:
        nth_largest = np.partition(largest, num_runs - count, axis=1)[:, num_runs - count, None]
        least = np.maximum(least, nth_largest)
    row, place = np.nonzero(cosines >= least)
    value = cosines[row, place]
    order = np.lexsort((place, -value, row))
    row, place, value = row[order], place[order], value[order]
    number = np.arange(row.size) - np.searchsorted(row, row)
    is_taken = number < count
    row, number = row[is_taken], number[is_taken]
    items = np.full((num_rows, count), -1, np.int32)
    found = np.full((num_rows, count), np.nan, np.float32)
    items[row, number], found[row, number] = place[is_taken], value[is_taken]
    return Negatives(items, found)
