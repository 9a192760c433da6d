"""Which pairs each set gets: the items' split, how many pairs of each label, and the pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sharedlayers_dist.config import MakingConfig
from sharedlayers_dist.data.making.mining import Possible, count_possible, mine_pairs
from sharedlayers_dist.data.making.splitting import (
    LEFT_OUT,
    is_repeated,
    keep_in_first_set,
    split_groups,
    split_items,
)
from sharedlayers_dist.data.making.writer import FilePairs, count_row_groups
from sharedlayers_dist.data.schema import SET_NAMES
from sharedlayers_dist.errors import UserError

_PAIRS_PER_ITEM = 5
_PAIRS_PER_BLOCK = 256
"""Pairs that share items: a batch that is read in file order then has few different ones."""


def split_into_sets(
    group_of_item: np.ndarray, keys: np.ndarray, options: MakingConfig
) -> tuple[np.ndarray, dict[str, int]]:
    """The set of each item, and how many items are in none, by reason."""
    shares = _shares(options)
    repeated = is_repeated(group_of_item, keys)
    usable = np.flatnonzero(~repeated)
    rng = np.random.default_rng([options.seed, 0])
    set_of_item = np.full(len(keys), LEFT_OUT, np.int8)
    if options.split_by == "group":
        sizes = np.bincount(group_of_item[usable])
        set_of_item[usable] = split_groups(sizes, shares, rng)[group_of_item[usable]]
    else:
        set_of_item[usable] = split_items(group_of_item[usable], shares, rng)
    kept = keep_in_first_set(set_of_item, keys)
    return kept, {
        "repeated_items": int(np.count_nonzero(repeated)),
        "items_in_several_sets": int(np.count_nonzero(kept != set_of_item)),
    }


class _Counts(NamedTuple):
    positives: int
    negatives: int


def mine_sets(
    group_of_item: np.ndarray,
    keys: np.ndarray,
    set_of_item: np.ndarray,
    bytes_per_item: float,
    options: MakingConfig,
) -> dict[str, FilePairs]:
    """The pairs of each set that has a share, as numbers of items."""
    members = {
        name: np.flatnonzero(set_of_item == index)
        for index, (name, share) in enumerate(zip(SET_NAMES, _shares(options), strict=True))
        if share > 0
    }
    # Groups are numbered anew in each set, and so are the keys: without gaps.
    inside = {
        name: tuple(np.unique(x[items], return_inverse=True)[1] for x in (group_of_item, keys))
        for name, items in members.items()
    }
    possible = {name: count_possible(*arrays) for name, arrays in inside.items()}
    counts = _plan_counts(possible, len(keys), options)
    sets = {}
    for index, (name, (groups, contents)) in enumerate(inside.items()):
        positives, negatives = counts[name]
        num_row_groups = count_row_groups(positives + negatives, bytes_per_item)
        blocks_per_row_group = -(-(positives + negatives) // (num_row_groups * _PAIRS_PER_BLOCK))
        mined = mine_pairs(
            groups,
            contents,
            num_positives=positives,
            num_negatives=negatives,
            num_blocks=num_row_groups * blocks_per_row_group,
            rng=np.random.default_rng([options.seed, 1, index]),
        )
        items = members[name]
        rows = mined.rows_per_block.reshape(num_row_groups, blocks_per_row_group).sum(axis=1)
        sets[name] = FilePairs(items[mined.a], items[mined.b], mined.label, rows)
    return sets


def _plan_counts(
    possible: Mapping[str, Possible], num_items: int, options: MakingConfig
) -> dict[str, _Counts]:
    """How many pairs of each label each set gets.

    Raises:
        UserError: when that is more than there are; says how many there are.
    """

    def counts_of(total: int) -> dict[str, _Counts]:
        sizes = {
            name: round(total * share)
            for name, share in zip(SET_NAMES, _shares(options), strict=True)
        }
        sizes["train"] = total - sizes["validation"] - sizes["test"]
        positives = {name: round(size * options.positive_share) for name, size in sizes.items()}
        return {name: _Counts(positives[name], sizes[name] - positives[name]) for name in possible}

    def fits(total: int) -> bool:
        counts = counts_of(total)
        return all(
            counts[name].positives <= has.positives and counts[name].negatives <= has.negatives
            for name, has in possible.items()
        )

    low, high = 0, sum(has.positives + has.negatives for has in possible.values())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    most = low
    wanted = (
        min(_PAIRS_PER_ITEM * num_items, most) if options.num_pairs is None else options.num_pairs
    )
    counts = counts_of(wanted)
    if not fits(wanted) or not all(sum(count) for count in counts.values()):
        remedy = "Give"
        if options.num_pairs is not None and all(map(sum, counts_of(most).values())):
            remedy = f"Ask for {'more' if fits(wanted) else 'fewer'} pairs, give"
        available = "; ".join(
            f"{name}: {has.positives:,} of one group, {has.negatives:,} of two"
            for name, has in possible.items()
        )
        raise UserError(
            f"At most {most:,} pairs can be made at this balance and these shares, and each set "
            f"needs one. Received: num_pairs={options.num_pairs}, {num_items:,} items; possible in "
            f"each set: {available}. {remedy} more items and groups, or change the shares or "
            "--split-by."
        )
    return counts


def _shares(options: MakingConfig) -> tuple[float, float, float]:
    """Shares of the training, validation and test set."""
    training = 1 - options.validation_share - options.test_share
    return training, options.validation_share, options.test_share
