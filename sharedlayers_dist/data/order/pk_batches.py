"""P x K sampling: batches of P groups times K items, and all pairs within each batch.

Pure functions of plain values, like the plan of a fixed list of pairs. Once an epoch every item is
in one batch. The items of a group are cut, in random order, into *chunks* of up to K items; the
chunks of a group are spread evenly over the epoch, or the last batches would be of the largest
group alone; P chunks that follow each other make a batch.

Alexander Hermans, Lucas Beyer, Bastian Leibe: In Defense of the Triplet Loss for Person
Re-Identification, 2017 (https://arxiv.org/abs/1703.07737), section 2, draws P groups and K items
of each at random; here an epoch takes every item once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.order.permutation import Purpose, Rows, permutation
from sharedlayers_dist.errors import UserError


class GroupedEpoch(NamedTuple):
    """The items of each batch of an epoch."""

    items: Rows
    """All items, batch by batch, shape `(items,)`."""
    batch_starts: Rows
    """Items before each batch, and in all, shape `(batches + 1,)`."""

    @property
    def num_steps(self) -> int:
        """Batches of the epoch: the same on every rank."""
        return len(self.batch_starts) - 1

    def items_of_step(self, step: int) -> Rows:
        """Items of batch `step`, over all ranks."""
        return self.items[self.batch_starts[step] : self.batch_starts[step + 1]]


class ItemPairs(NamedTuple):
    """One rank's pairs of a batch, as places in the batch's items."""

    a: Rows
    b: Rows
    label: NDArray[np.float32]
    """1 where both are of one group, else 0, shape `(pairs,)`."""
    weight: NDArray[np.float32]
    """Positives and negatives of the global batch weigh the same in all; mean 1."""


def plan_groups(
    group_of_item: Rows, *, groups_per_batch: int, items_per_group: int, seed: int, epoch: int
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

    Raises:
        UserError: where no batch could have a positive or no batch a negative pair.
    """
    if groups_per_batch < 2 or items_per_group < 2:
        raise UserError(
            "A batch needs at least 2 groups of 2 items to have pairs of both kinds. Received: "
            f"groups_per_batch={groups_per_batch}, items_per_group={items_per_group}."
        )
    sizes = np.bincount(group_of_item)
    if np.count_nonzero(sizes) < 2 or sizes.max() < 2:
        raise UserError(
            "Pairs of both kinds need two groups, one of them of two items. Received: "
            f"{np.count_nonzero(sizes)} groups of at most {sizes.max(initial=0)} items."
        )
    # Items by group, those of a group in random order.
    shuffled = permutation(len(group_of_item), seed=seed, purpose=Purpose.ITEMS, key=(epoch, 0, 0))
    items = shuffled[np.argsort(group_of_item[shuffled], kind="stable")]
    group = group_of_item[items]
    place_in_group = np.arange(len(items)) - (np.cumsum(sizes) - sizes)[group]
    chunk_in_group = place_in_group // items_per_group
    chunks_of_group = -(-sizes // items_per_group)
    # A chunk's time in the epoch, in (0, 1): evenly spaced, from a random start for each group.
    start = permutation(sizes.size, seed=seed, purpose=Purpose.GROUPS, key=(epoch, 0, 0)) + 0.5
    time = (chunk_in_group + start[group] / sizes.size) / chunks_of_group[group]
    by_time = np.lexsort((group, time))
    is_first_of_chunk = (place_in_group % items_per_group == 0)[by_time]
    chunk_starts = np.flatnonzero(is_first_of_chunk)
    num_batches = max(1, len(chunk_starts) // groups_per_batch)
    first_chunks = np.arange(num_batches) * len(chunk_starts) // num_batches
    return GroupedEpoch(items[by_time], np.append(chunk_starts[first_chunks], len(items)))


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
