"""Which pairs to make of the items of one set: pure functions of plain arrays.

The rules, for pairs that are cut into blocks, which are row groups or parts of them:

- Positives: every group gives the same number of pairs, or all it has where that is fewer; so no
  group dominates, and a group's pairs never outgrow its possible ones. Within a group the items
  stand on a circle in random order and are paired with their next neighbours first, then with
  the next but one, and so on: all its items are used equally often, within two.
- Blocks: a group's positives are cut into short runs that share items (8 pairs of 9 items), and the
  runs are shuffled over the blocks.
- Negatives: the sides of a block's own positives, shuffled and paired anew. So a block has far
  fewer items than sides, and neither an item nor a group is more frequent in one label than in the
  other: only the two together tell. Where more negatives than positives are asked for, the rest of
  the sides comes from all groups evenly. Where pairing anew gets stuck (most of the possible pairs
  asked for), the rest is drawn from all possible pairs of the set.
- Order: the rows of a block are chains, in which each pair shares an item with the one before and
  the labels take turns; see `chaining`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sharedlayers_dist.data.making.chaining import chain_rows

_PAIRS_PER_RUN = 8
_MAX_REPAIRING_ROUNDS = 12
_MAX_REUSE = 4


class Pairs(NamedTuple):
    """Pairs of one set, block by block."""

    a: np.ndarray
    """int64 (num_pairs,), index of the first item."""
    b: np.ndarray
    """int64 (num_pairs,), index of the second item."""
    label: np.ndarray
    """int8 (num_pairs,), 1 where both items are of one group, else 0."""
    rows_per_block: np.ndarray
    """int64 (num_blocks,), rows of each block; they add up to num_pairs."""


class Possible(NamedTuple):
    """How many pairs a set of items can give."""

    positives: int
    negatives: int


def count_possible(group_of_item: np.ndarray, key_of_item: np.ndarray) -> Possible:
    """Counts the pairs of different items; two groups' items of equal content make no pair.

    Args:
        group_of_item: int (num_items,), index of each item's group.
        key_of_item: uint64 (num_items,), equal for items of equal content; no two items of one
            group may have the same.
    """
    positives = _count_pairs_within(group_of_item)
    of_equal_content = _count_pairs_within(key_of_item)
    num_items = len(group_of_item)
    return Possible(positives, num_items * (num_items - 1) // 2 - positives - of_equal_content)


def allot_evenly(capacity: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Shares `total` out: everyone gets the same, or its capacity where that is less.

    Args:
        capacity: int (n,), the most that each can take; together at least `total`.
        total: what is to be shared out.
        rng: chooses who gets one more where it does not come out even.

    Returns:
        int64 (n,), adding up to `total`.
    """
    low, high = 0, int(capacity.max(initial=0))
    while low < high:  # The highest level that does not give out more than `total`.
        level = (low + high + 1) // 2
        if int(np.minimum(capacity, level).sum()) <= total:
            low = level
        else:
            high = level - 1
    allotted = np.minimum(capacity, low).astype(np.int64)
    has_room = np.flatnonzero(capacity > low)
    allotted[rng.permutation(has_room)[: total - int(allotted.sum())]] += 1
    return allotted


def mine_pairs(
    group_of_item: np.ndarray,
    key_of_item: np.ndarray,
    *,
    num_positives: int,
    num_negatives: int,
    num_blocks: int,
    rng: np.random.Generator,
) -> Pairs:
    """Makes the pairs of one set, by the rules at the top of this module.

    Args:
        group_of_item: int (num_items,), index of each item's group, from 0.
        key_of_item: uint64 (num_items,), equal for items of equal content; no two items of one
            group may have the same.
        num_positives: pairs with label 1; at most `count_possible(...).positives`.
        num_negatives: pairs with label 0; at most `count_possible(...).negatives`.
        num_blocks: blocks to cut the pairs into, alike in size and in balance.
        rng: source of every choice.

    Returns:
        `num_positives + num_negatives` pairs; none twice in either order, none of an item with
        itself or with an equal one.
    """
    positives = _mine_positives(group_of_item, num_positives, rng)
    positives_per_block = _cut_evenly(num_positives, num_blocks)
    negatives_per_block = _cut_evenly(num_negatives, num_blocks)[::-1]
    positive_block = np.repeat(np.arange(num_blocks), positives_per_block)
    negatives, negative_block = _mine_negatives(
        _Items(group_of_item, key_of_item),
        positives,
        positive_block,
        negatives_per_block,
        rng,
    )
    sides = np.concatenate([positives, negatives])
    label = np.repeat(np.array([1, 0], np.int8), [num_positives, num_negatives])
    block = np.concatenate([positive_block, negative_block])
    order = np.lexsort((rng.random(len(block)), block))
    swap = rng.random(len(block)) < 0.5
    a, b = np.where(swap, sides.T[::-1], sides.T)
    rows_per_block = positives_per_block + negatives_per_block
    order = order[chain_rows(a[order], b[order], label[order], rows_per_block, rng)]
    return Pairs(a[order], b[order], label[order], rows_per_block)


class _Items:
    """The items in order of group, with a number for each possible pair of two groups' items."""

    def __init__(self, group_of_item: np.ndarray, key_of_item: np.ndarray):
        self.group_of_item = group_of_item
        self.key_of_item = key_of_item
        num_items = len(group_of_item)
        self._order = np.argsort(group_of_item, kind="stable")
        groups = group_of_item[self._order]
        self._end_of_group = np.searchsorted(groups, groups, side="right")
        self._ends = np.cumsum(num_items - self._end_of_group)
        self.num_across = int(self._ends[-1]) if num_items else 0
        """Pairs of items of different groups, those of equal content included."""

    def pairs_across(self, numbers: np.ndarray) -> np.ndarray:
        """The pairs (n, 2) with these `numbers` (n,), each in [0, num_across)."""
        first = np.searchsorted(self._ends, numbers, side="right")
        starts = self._ends[first] - (len(self._order) - self._end_of_group[first])
        second = self._end_of_group[first] + numbers - starts
        return np.stack([self._order[first], self._order[second]], axis=1)

    def may_be_negative(self, pairs: np.ndarray) -> np.ndarray:
        """Whether each of the `pairs` (n, 2) has two groups and two contents."""
        a, b = pairs.T
        return (self.group_of_item[a] != self.group_of_item[b]) & (
            self.key_of_item[a] != self.key_of_item[b]
        )

    def codes(self, pairs: np.ndarray) -> np.ndarray:
        """A number (n,) for each of the `pairs` (n, 2), the same in either order."""
        return pairs.min(axis=1) * np.int64(len(self.group_of_item)) + pairs.max(axis=1)


def _mine_positives(
    group_of_item: np.ndarray, num_positives: int, rng: np.random.Generator
) -> np.ndarray:
    """The positives (num_positives, 2): runs that share items, the runs in random order."""
    sizes = np.bincount(group_of_item).astype(np.int64)
    order = np.lexsort((rng.random(len(group_of_item)), group_of_item))
    pairs_per_group = allot_evenly(sizes * (sizes - 1) // 2, num_positives, rng)
    start = np.repeat(np.cumsum(sizes) - sizes, pairs_per_group)
    size = np.repeat(sizes, pairs_per_group)
    number = np.arange(num_positives) - np.repeat(
        np.cumsum(pairs_per_group) - pairs_per_group, pairs_per_group
    )
    # Pair k of n items on a circle: item k mod n with the one k // n + 1 places on. That numbers
    # all n (n - 1) / 2 pairs once: with an even n the last distance comes round after n / 2.
    i = number % size
    j = (i + number // size + 1) % size
    pairs = np.stack([order[start + i], order[start + j]], axis=1)
    run = np.cumsum(number % _PAIRS_PER_RUN == 0) - 1
    num_runs = int(run[-1]) + 1 if num_positives else 0
    return pairs[np.argsort(rng.permutation(num_runs)[run], kind="stable")]


def _mine_negatives(
    items: _Items,
    positives: np.ndarray,
    positive_block: np.ndarray,
    negatives_per_block: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The negatives (n, 2) and the block (n,) of each."""
    num_negatives = int(negatives_per_block.sum())
    blocks = np.repeat(np.arange(len(negatives_per_block)), negatives_per_block)
    if 2 * num_negatives > items.num_across - _count_pairs_within(items.key_of_item):
        return _choose_of_all(items, num_negatives, rng), blocks
    sides, side_block = _sides_to_pair(items, positives, positive_block, negatives_per_block, rng)
    found: list[np.ndarray] = []
    found_block: list[np.ndarray] = []
    codes = np.empty(0, np.int64)
    for _ in range(_MAX_REPAIRING_ROUNDS):
        if not len(sides):
            break
        # Every block holds an even number of sides, so no pair reaches over two blocks.
        shuffle = np.lexsort((rng.random(len(sides)), side_block))
        candidates = sides[shuffle].reshape(-1, 2)
        is_new, codes = _accept(items, candidates, codes)
        found.append(candidates[is_new])
        found_block.append(side_block[::2][is_new])
        sides, side_block = candidates[~is_new].ravel(), np.repeat(side_block[::2][~is_new], 2)
    num_left = len(sides) // 2
    while num_left:
        numbers = rng.integers(items.num_across, size=num_left + 16)
        candidates = items.pairs_across(numbers)
        is_new, codes = _accept(items, candidates, codes)
        found.append(candidates[is_new][:num_left])
        num_left -= len(found[-1])
    found_block.append(side_block[::2])
    return np.concatenate([np.empty((0, 2), np.int64), *found]), np.concatenate(found_block)


def _sides_to_pair(
    items: _Items,
    positives: np.ndarray,
    positive_block: np.ndarray,
    negatives_per_block: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Two sides (2 n,) for each of n negatives, and the block of each side, in order of block.

    They are the sides of the block's own positives; what a block wants beyond those comes from all
    groups evenly.
    """
    wanted = 2 * negatives_per_block
    available = 2 * np.bincount(positive_block, minlength=len(wanted))
    own = np.minimum(wanted, available)
    own_block = np.repeat(np.arange(len(own)), own)
    # Each block begins somewhere in its own sides, so that a part of them is no biased part.
    phase = rng.integers(np.maximum(available, 1))
    turn = np.arange(len(own_block)) - np.repeat(np.cumsum(own) - own, own) + phase[own_block]
    start = np.cumsum(available) - available
    own_sides = positives.ravel()[start[own_block] + turn % available[own_block]]
    more_block = np.repeat(np.arange(len(own)), wanted - own)
    more_sides = _draw_sides(items.group_of_item, len(more_block), rng)
    block = np.concatenate([own_block, more_block])
    order = np.argsort(block, kind="stable")
    return np.concatenate([own_sides, more_sides])[order], block[order]


def _draw_sides(group_of_item: np.ndarray, num_sides: int, rng: np.random.Generator) -> np.ndarray:
    """Items (num_sides,) in random order: every group as often, every item of a group as often.

    No item is taken more than about `_MAX_REUSE` times as often as the average one, however small
    its group.
    """
    sizes = np.bincount(group_of_item).astype(np.int64)
    most_per_item = _MAX_REUSE * -(-num_sides // max(len(group_of_item), 1))
    sides_per_group = allot_evenly(sizes * most_per_item, num_sides, rng)
    order = np.lexsort((rng.random(len(group_of_item)), group_of_item))
    start = np.repeat(np.cumsum(sizes) - sizes, sides_per_group)
    number = np.arange(num_sides) - np.repeat(
        np.cumsum(sides_per_group) - sides_per_group, sides_per_group
    )
    return rng.permutation(order[start + number % np.repeat(sizes, sides_per_group)])


def _choose_of_all(items: _Items, num_negatives: int, rng: np.random.Generator) -> np.ndarray:
    """Negatives (n, 2) chosen from the list of all, where more than half of all are wanted."""
    pairs = items.pairs_across(np.arange(items.num_across))
    pairs = pairs[items.may_be_negative(pairs)]
    return pairs[rng.permutation(len(pairs))[:num_negatives]]


def _accept(
    items: _Items, candidates: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which candidates (n, 2) are negatives not had before, and the codes of all had now."""
    new_codes = items.codes(candidates)
    is_new = np.zeros(len(candidates), bool)
    is_new[np.unique(new_codes, return_index=True)[1]] = True
    is_new &= items.may_be_negative(candidates) & ~np.isin(new_codes, codes)
    return is_new, np.concatenate([codes, new_codes[is_new]])


def _count_pairs_within(values: np.ndarray) -> int:
    """Pairs of places that hold the same value."""
    counts = np.unique(values, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _cut_evenly(total: int, num_parts: int) -> np.ndarray:
    """Sizes (num_parts,) of equal parts of `total`, the larger ones spread among the others."""
    return np.diff(np.arange(num_parts + 1) * total // num_parts)
