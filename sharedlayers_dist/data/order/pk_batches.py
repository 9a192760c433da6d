"""P x K sampling: batches of P groups times K items, and all pairs within each batch.

Pure functions of plain values, like the plan of a fixed list of pairs. Once an epoch every item is
in one batch. The items of a group are cut, in random order, into *chunks* of up to K items, and the
chunks, group after group, are dealt out to the batches like cards. So no two chunks of a group are
in one batch, unless the group has more chunks than there are batches; and then it is spread evenly
over them, or the last batches would be of the largest group alone.

Alexander Hermans, Lucas Beyer, Bastian Leibe: In Defense of the Triplet Loss for Person
Re-Identification, 2017 (https://arxiv.org/abs/1703.07737), section 2, draws P groups and K items
of each at random; here an epoch takes every item once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.order.hard_batches import Chunks, deal_by_negatives
from sharedlayers_dist.data.order.permutation import Purpose, Rows, permutation
from sharedlayers_dist.errors import UserError


class GroupedEpoch(NamedTuple):
    """The items of each batch of an epoch, in chunks of one group."""

    items: Rows
    """All items, batch by batch and chunk by chunk, shape `(items,)`."""
    chunk_starts: Rows
    """Items before each chunk, and in all, shape `(chunks + 1,)`."""
    batch_starts: Rows
    """Chunks before each batch, and in all, shape `(batches + 1,)`."""

    @property
    def num_steps(self) -> int:
        """Batches of the epoch: the same on every rank."""
        return len(self.batch_starts) - 1

    def items_of_step(self, step: int, *, rank: int = 0, size: int = 1) -> Rows:
        """The items of batch `step` that `rank` of `size` takes: whole chunks, next to each other.

        The shares of all ranks, in their order, are those of one rank.
        """
        first, end = self.batch_starts[step], self.batch_starts[step + 1]
        begin, stop = (first + (end - first) * n // size for n in (rank, rank + 1))
        return self.items[self.chunk_starts[begin] : self.chunk_starts[stop]]


class ItemPairs(NamedTuple):
    """One rank's pairs of a batch, as places in the batch's items."""

    a: Rows
    b: Rows
    label: NDArray[np.float32]
    """1 where both are of one group, else 0, shape `(pairs,)`."""
    weight: NDArray[np.float32]
    """Positives and negatives of the global batch weigh the same in all; mean 1."""


def plan_groups(
    group_of_item: Rows,
    *,
    groups_per_batch: int,
    items_per_group: int,
    seed: int,
    epoch: int,
    whole_chunks: bool = False,
    negatives: NDArray[np.integer] | None = None,
) -> GroupedEpoch:
    """Plans one epoch over all items.

    A batch has `groups_per_batch` chunks or, where they do not come out even, some more; an epoch
    of fewer chunks is one batch.

    Args:
        group_of_item: Number of each item's group, from 0, shape `(items,)`.
        groups_per_batch: P, chunks of a global batch.
        items_per_group: K, the most items of a chunk.
        seed: Seed of the order.
        epoch: Index of the epoch, from 0.
        whole_chunks: Whether chunks of fewer than K items are left out of the epoch: what is over
            of each group, other items in other epochs.
        negatives: Items that each item is hard to tell from, the nearest first, `(items, N)`; -1
            for none. They are dealt into its batch, as `deal_by_negatives` says.

    Raises:
        UserError: where no batch could have a positive or no batch a negative pair.
    """
    _check_sizes(group_of_item, groups_per_batch, items_per_group, whole_chunks=whole_chunks)
    sizes = np.bincount(group_of_item)
    # Items by group, those of a group in random order, the groups too.
    shuffled = permutation(len(group_of_item), seed=seed, purpose=Purpose.ITEMS, key=(epoch, 0, 0))
    place_of_group = permutation(sizes.size, seed=seed, purpose=Purpose.GROUPS, key=(epoch, 0, 0))
    place = place_of_group[group_of_item[shuffled]]
    items = shuffled[np.argsort(place, kind="stable")]
    place.sort()
    first_of_place = np.searchsorted(place, place)
    place_in_chunk = (np.arange(len(items)) - first_of_place) % items_per_group
    chunk = np.cumsum(place_in_chunk == 0) - 1
    if whole_chunks:
        is_whole = (np.bincount(chunk) == items_per_group)[chunk]
        items, chunk = items[is_whole], np.cumsum(place_in_chunk[is_whole] == 0) - 1
    num_chunks = int(chunk[-1]) + 1
    num_batches = max(1, num_chunks // groups_per_batch)
    # Dealt out one by one, to batches in random order.
    order = permutation(num_batches, seed=seed, purpose=Purpose.BATCHES, key=(epoch, 0, 0))
    batch_of_chunk = order[np.arange(num_chunks) % num_batches]
    if negatives is not None:
        seeds = permutation(num_chunks, seed=seed, purpose=Purpose.SEEDS, key=(epoch, 0, 0))
        chunks = Chunks(items, chunk, group_of_item)
        batch_of_chunk = order[deal_by_negatives(chunks, negatives, seeds, num_batches)]
    by_batch = np.argsort(batch_of_chunk[chunk], kind="stable")
    size_of_chunk = np.bincount(chunk)[np.argsort(batch_of_chunk, kind="stable")]
    return GroupedEpoch(
        items[by_batch],
        np.concatenate([[0], np.cumsum(size_of_chunk)]),
        np.concatenate([[0], np.cumsum(np.bincount(batch_of_chunk))]),
    )


def _check_sizes(
    group_of_item: Rows, groups_per_batch: int, items_per_group: int, *, whole_chunks: bool
) -> None:
    """Raises UserError where no batch could have a positive or no batch a negative pair."""
    if groups_per_batch < 2 or items_per_group < 2:
        raise UserError(
            "A batch needs at least 2 groups of 2 items to have pairs of both kinds. Received: "
            f"groups_per_batch={groups_per_batch}, items_per_group={items_per_group}."
        )
    sizes = np.bincount(group_of_item)
    most = sizes.max(initial=0)
    if np.count_nonzero(sizes) < 2 or most < 2:
        raise UserError(
            "Pairs of both kinds need two groups, one of them of two items. Received: "
            f"{np.count_nonzero(sizes)} groups of at most {most} items."
        )
    if whole_chunks and np.count_nonzero(sizes >= items_per_group) < 2:
        raise UserError(
            "Positive pairs that are each other's negatives need two groups with a pair each. "
            f"Received: {np.count_nonzero(sizes >= items_per_group)} groups of "
            f"{items_per_group} items or more."
        )


def pair_items(
    groups: Rows, *, seed: int, epoch: int, step: int, rank: int = 0, size: int = 1
) -> ItemPairs:
    """All pairs of a batch's items that `rank` of `size` takes: every `size`-th of them.

    The pairs and their order are the same for any `size`. Which item of a pair is `a` is random.

    Args:
        groups: Group of each item of the global batch, shape `(items,)`.
        seed: Seed of the order.
        epoch: Index of the epoch.
        step: Index of the batch in the epoch.
        rank: Who takes the pairs.
        size: Number of ranks.
    """
    first, second = np.triu_indices(len(groups), 1)
    label = groups[first] == groups[second]
    num_positive = np.count_nonzero(label)
    weight = np.ones(label.size, np.float32)
    if 0 < num_positive < label.size:
        weight[label] = label.size / (2 * num_positive)
        weight[~label] = label.size / (2 * (label.size - num_positive))
    order = permutation(label.size, seed=seed, purpose=Purpose.PAIRS, key=(epoch, step, 0))
    mine = order[rank::size]
    # The values of a second permutation are even or odd at random.
    sides = permutation(label.size, seed=seed, purpose=Purpose.SIDES, key=(epoch, step, 0))
    is_swapped = sides[mine] % 2 == 1
    return ItemPairs(
        a=np.where(is_swapped, second[mine], first[mine]),
        b=np.where(is_swapped, first[mine], second[mine]),
        label=label[mine].astype(np.float32),
        weight=weight[mine],
    )
