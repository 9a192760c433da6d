"""Batches of groups in which items meet those that they are hard to tell from.

Each chunk of items is in one batch of an epoch, as without: what is chosen is which of them meet.
Evgeny Smirnov et al.: Doppelganger Mining for Face Representation Learning, ICCVW 2017, and
Shengcai Liao, Ling Shao: Graph Sampling Based Deep Metric Learning for Generalizable Person
Re-Identification, CVPR 2022 (https://arxiv.org/abs/2104.01546), fill batches with classes that are
near each other; here single items decide, for groups that are alike in parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.order.permutation import Rows


class Chunks(NamedTuple):
    """The items of an epoch, in chunks of one group."""

    items: Rows
    """Chunk by chunk, shape `(items of the epoch,)`."""
    chunk: Rows
    """Number of each one's chunk, from 0, ascending, shape `(items of the epoch,)`."""
    group_of_item: Rows
    """Number of the group of every item there is, shape `(items,)`."""


def deal_by_negatives(
    chunks: Chunks, negatives: NDArray[np.integer], seeds: Rows, num_batches: int
) -> Rows:
    """Deals out chunks so that items meet their negatives.

    One batch after the other is filled, each with as many chunks as if they were dealt out one by
    one. It takes first what it must of groups that have as many chunks left as there are batches
    left, or more; then chunks in the order of `seeds`. Each of both is followed by up to N chunks
    with the items' negatives, the nearest first. A batch has no two chunks of a group that has no
    more chunks than there are batches; one of more is spread evenly.

    Args:
        chunks: What is dealt out.
        negatives: Items that each item is hard to tell from, the nearest first, `(items, N)`; -1
            for none.
        seeds: The chunks in random order, `(chunks,)`.
        num_batches: Batches to fill.

    Returns:
        The place of each chunk's batch in the order in which they are filled, `(chunks,)`: the
        first ones have the most of their items' negatives.

    Example:
        >>> group = np.array([0, 0, 1, 1, 2, 2, 3, 3])
        >>> negatives = np.array([[4], [5], [-1], [6], [0], [0], [2], [3]])
        >>> chunks = Chunks(np.arange(8), group, group)  # One chunk for each group.
        >>> deal_by_negatives(chunks, negatives, np.array([1, 0, 2, 3]), 2)
        array([1, 0, 1, 0])
    """
    dealer = _Dealer(chunks, negatives, seeds)
    batch_of_chunk = np.empty(seeds.size, np.int64)
    sizes = np.bincount(np.arange(seeds.size) % num_batches)
    for number, size in enumerate(sizes.tolist()):
        batch_of_chunk[dealer.fill(size, num_left=num_batches - number)] = number
    return batch_of_chunk


class _Dealer:
    """The chunks that are not dealt yet.

    A batch can always be filled: of c chunks that a group has left for R batches it gives one of
    them at least floor(c / R) and at most ceil(c / R), and the size of each batch lies between the
    sums of both over all groups.
    """

    def __init__(self, chunks: Chunks, negatives: NDArray[np.integer], seeds: Rows) -> None:
        items, chunk, group_of_item = chunks
        self._starts = np.searchsorted(chunk, np.arange(seeds.size + 1)).tolist()
        chunk_of_item = np.full(group_of_item.size + 1, -1)  # The last stands for no item.
        chunk_of_item[items] = chunk
        self._chunk_of_negative = chunk_of_item[negatives[items]]
        group_of_chunk = group_of_item[items[self._starts[:-1]]]
        self._group = group_of_chunk.tolist()
        self._num_left = np.bincount(group_of_chunk)
        self._is_dealt = [False] * seeds.size
        self._seeds, self._first_seed = seeds.tolist(), 0
        # In the order of seeds, or those of a large group would be passed over again and again.
        by_group = seeds[np.argsort(group_of_chunk[seeds], kind="stable")]
        ends = np.cumsum(self._num_left)[:-1]
        self._of_group = [iter(part.tolist()) for part in np.split(by_group, ends)]

    def fill(self, size: int, *, num_left: int) -> list[int]:
        """Takes the chunks of a batch; this one and `num_left - 1` others are to be filled."""
        least = self._num_left // num_left
        self._room = (-(-self._num_left // num_left)).tolist()
        batch: list[int] = []
        for group in np.flatnonzero(least).tolist():
            for _ in range(least[group]):
                self._deal(next(c for c in self._of_group[group] if not self._is_dealt[c]), batch)
        for seed in self._iter_seeds(list(batch)):
            if len(batch) == size:
                break
            if not self._is_dealt[seed]:
                self._deal(seed, batch)
            self._add_negatives(seed, batch, size)
        return batch

    def _iter_seeds(self, dealt: list[int]) -> Iterator[int]:
        """Chunks that others may follow: those that are dealt, then any that fit."""
        yield from dealt
        while self._first_seed < len(self._seeds) and self._is_dealt[self._seeds[self._first_seed]]:
            self._first_seed += 1
        for place in range(self._first_seed, len(self._seeds)):
            if self._fits(self._seeds[place]):
                yield self._seeds[place]

    def _add_negatives(self, seed: int, batch: list[int], size: int) -> None:
        """Adds up to N chunks with negatives of the items of `seed`."""
        nearest = self._chunk_of_negative[self._starts[seed] : self._starts[seed + 1]]
        num_more = min(nearest.shape[1], size - len(batch))
        for chunk in nearest.T.ravel().tolist():
            if not num_more:
                break
            if chunk >= 0 and self._fits(chunk):
                self._deal(chunk, batch)
                num_more -= 1

    def _fits(self, chunk: int) -> bool:
        return not self._is_dealt[chunk] and self._room[self._group[chunk]] > 0

    def _deal(self, chunk: int, batch: list[int]) -> None:
        batch.append(chunk)
        self._is_dealt[chunk] = True
        self._room[self._group[chunk]] -= 1
        self._num_left[self._group[chunk]] -= 1
