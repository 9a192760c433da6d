"""Retrieval figures: whether the items nearest to an item are of its group (pure functions)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.order.permutation import Purpose, Rows, permutation

_RECALL_AT = (1, 5, 10)
FIGURES = (*(f"recall_at_{k}" for k in _RECALL_AT), "mrr", "map_at_r")
"""The names of the figures, in the order of the columns of `measure_queries`."""
_COSINES_AT_ONCE = 2**20
"""Of a block of queries with all items; some 50 bytes each, so that a block takes 50 MiB."""
_NUM_DRAWS = 500


class Estimate(NamedTuple):
    """A mean over queries, and the interval that it may lie in for other groups of the kind."""

    mean: float
    low: float
    high: float


def choose_items(group_of_item: Rows, most: int, *, seed: int) -> Rows:
    """Chooses the items of whole groups, in an order of groups that depends on `seed` alone.

    Args:
        group_of_item: Number of each item's group, from 0, shape `(items,)`.
        most: The most items to choose; the first group that would be too much ends the choice.
        seed: Seed of the order.

    Returns:
        The places of the chosen items, ascending.

    Example:
        >>> len(choose_items(np.array([0, 0, 0, 1, 1, 1, 2, 2, 2]), 7, seed=0))
        6
    """
    sizes = np.bincount(group_of_item)
    order = permutation(sizes.size, seed=seed, purpose=Purpose.RETRIEVAL, key=(0, 0, 0))
    chosen = order[np.cumsum(sizes[order]) <= most]
    return np.flatnonzero(np.isin(group_of_item, chosen))


def find_queries(group: Rows) -> Rows:
    """The places of the items that have another one of their group, ascending.

    Args:
        group: Number of each item's group, `(items,)`.
    """
    _, of_item, sizes = np.unique(group, return_inverse=True, return_counts=True)
    return np.flatnonzero(sizes[of_item] > 1)


def measure_queries(
    encodings: NDArray[np.floating], group: Rows, queries: Rows
) -> NDArray[np.float64]:
    """Ranks all other items for each query by their cosine, and says how well its group does.

    - recall@k: 1 if one of the k nearest items is of the query's group, 0 otherwise;
    - MRR: 1 / the rank of the nearest item of its group;
    - MAP@R: of the R nearest items, R being the number of the others of its group, the sum of the
      precision at each one that is of the group, divided by R. Kevin Musgrave, Serge Belongie and
      Ser-Nam Lim: A Metric Learning Reality Check, 2020, section 3.2.

    Items of one cosine are ranked by their places. Memory is bounded: cosines are computed for a
    block of queries at a time, beside encodings of length 1 in 64 bits.

    Args:
        encodings: Finite, `(items, D)`; one of length 0 has the cosine 0 with all others.
        group: Number of each item's group, `(items,)`.
        queries: The places of the queries, as `find_queries` gives them, or some of these.

    Returns:
        A row for each query, `(queries, 5)`, in the order of `FIGURES`.

    Example:
        >>> encodings = np.array([[1.0, 0], [0.6, 0.8], [0.8, 0.6], [0, 1.0]])
        >>> measure_queries(encodings, np.array([0, 0, 1, 1]), np.array([0])).tolist()
        [[0.0, 1.0, 1.0, 0.5, 0.0]]
    """
    # Equal encodings have equal cosines then, whatever the matrix product rounds in which column.
    distinct, of_item = np.unique(encodings, axis=0, return_inverse=True)
    of_item = of_item.reshape(-1)
    unit = at_length_one(distinct.astype(np.float64))
    at_once = max(_COSINES_AT_ONCE // len(group), 1)
    values = [np.zeros((0, len(FIGURES)))]
    for start in range(0, queries.size, at_once):
        places = queries[start : start + at_once]
        cosines = (unit[of_item[places]] @ unit.T)[:, of_item]
        cosines[np.arange(places.size), places] = np.inf  # First, and left out.
        ranked = np.argsort(-cosines, axis=1, kind="stable")[:, 1:]
        values.append(_measure_ranked(group[ranked] == group[places, None]))
    return np.concatenate(values)


def estimate(
    values: NDArray[np.float64], group_of_query: Rows, *, seed: int
) -> dict[str, Estimate]:
    """The mean of each figure, and its interval by a bootstrap over groups.

    Queries of one group are alike, so that groups are drawn, and not queries: as many as there
    are, with replacement; the middle 95 % of 500 such means are the interval.

    Args:
        values: Of one query and more, `(queries, 5)`, as `measure_queries` gives them.
        group_of_query: Number of each query's group, `(queries,)`.
        seed: Seed of the draws.

    Returns:
        An estimate for each of `FIGURES`.

    Example:
        >>> estimate(np.ones((4, 5)), np.array([0, 0, 1, 1]), seed=0)["mrr"]
        Estimate(mean=1.0, low=1.0, high=1.0)
    """
    _, of_query = np.unique(group_of_query, return_inverse=True)
    sizes = np.bincount(of_query)
    sums = np.stack([np.bincount(of_query, column) for column in values.T], axis=1)
    random = np.random.default_rng(seed)
    means = np.empty((_NUM_DRAWS, values.shape[1]))
    for number in range(_NUM_DRAWS):
        drawn = random.integers(sizes.size, size=sizes.size)
        means[number] = sums[drawn].sum(axis=0) / sizes[drawn].sum()
    columns = zip(values.mean(axis=0), *np.quantile(means, [0.025, 0.975], axis=0), strict=True)
    return {
        name: Estimate(*map(float, column)) for name, column in zip(FIGURES, columns, strict=True)
    }


def at_length_one(encodings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Encodings `(items, D)` scaled to length 1; one of length 0 stays."""
    lengths = np.linalg.norm(encodings, axis=1, keepdims=True)
    return encodings / np.where(lengths == 0, 1, lengths)


def _measure_ranked(is_hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The figures of queries, from whether each item is of the group, the nearest first."""
    recalls = [is_hit[:, :k].any(axis=1) for k in _RECALL_AT]
    reciprocal_rank = 1 / (1 + np.argmax(is_hit, axis=1))
    num_others = is_hit.sum(axis=1)
    nearest = is_hit[:, : num_others.max()]
    rank = 1 + np.arange(nearest.shape[1])
    counts = nearest & (rank <= num_others[:, None])
    precision = np.cumsum(nearest, axis=1) / rank
    average = (precision * counts).sum(axis=1) / num_others
    return np.stack([*recalls, reciprocal_rank, average], axis=1)
