"""Giving the items of batches of P groups times K items, each of them once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.items.codec import ItemCodec
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.order.pk_batches import GroupedEpoch
from sharedlayers_dist.data.reading.grouped_items import GroupedItems
from sharedlayers_dist.data.reading.groups_reader import GroupsReader
from sharedlayers_dist.data.reading.item_loader import LocalItemLoader, OpenItems
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World


class ItemBatch(NamedTuple):
    """One rank's items of one global step: `n` rows, or one padding row where it has none."""

    items: NDArray
    """The items, `(n, *shape)` of the shape and type of their codec."""
    group: NDArray[np.int64]
    """Number of each item's group, shape `(n,)`; -1 marks padding."""
    key: NDArray[np.int64]
    """A number for each item's content, the same for items that count as equal, shape `(n,)`."""
    rows: Rows
    """Index of each item in the dataset's own order, shape `(n,)`; -1 for padding."""


class ItemReader(GroupsReader[ItemBatch]):
    """Gives one rank's items of batches of P groups times K items, each of them once.

    For losses and heads that compare all items of the global batch. Ranks share a batch out by
    whole chunks of a group's items, next to each other, so that the items of all ranks, in their
    order, are those of one. Any number of ranks sees the same batches.

    Args:
        index: The items.
        codec: How they become those of a batch; the codec they were read with, or one that differs
            from it in what it encodes alone (an alphabet).
        groups_per_batch: P, groups of a global batch.
        items_per_group: K, the most items of a group in a batch.
        seed: Seed of the order.
        world: Which rank reads.
        as_pairs: Whether each group gives a pair of items or none: K must be 2, and items of one
            pair follow each other.
        batches_ahead: Batches that wait for the consumer at most.
        open_items: Opens what gives them; by default they are held on this host.

    Raises:
        UserError: where the items make no pairs of both kinds, or a number is out of its range.
    """

    def __init__(
        self,
        index: GroupedItems,
        *,
        codec: ItemCodec,
        groups_per_batch: int,
        items_per_group: int,
        seed: int,
        world: World,
        as_pairs: bool = False,
        batches_ahead: int = 4,
        open_items: OpenItems = LocalItemLoader,
    ) -> None:
        if as_pairs and items_per_group != 2:
            raise UserError(
                "A batch of positive pairs takes 2 items of each group. Received: "
                f"items_per_group={items_per_group}. Set items_per_group to 2."
            )
        self.has_whole_chunks = self.as_pairs = as_pairs
        super().__init__(
            index,
            codec=codec,
            groups_per_batch=groups_per_batch,
            items_per_group=items_per_group,
            seed=seed,
            world=world,
            batches_ahead=batches_ahead,
            open_items=open_items,
        )

    def _items_of_step(self, plan: GroupedEpoch, step: int) -> Rows:
        return plan.items_of_step(step, rank=self.world.rank, size=self.world.size)

    def _make_batch(self, plan: GroupedEpoch, epoch: int, step: int, values: NDArray) -> ItemBatch:
        del epoch
        rows = self._items_of_step(plan, step)
        if not rows.size:
            return self._padding()
        return ItemBatch(values, self.index.group_of_item[rows], self.index.key_of_item[rows], rows)

    def _padding(self) -> ItemBatch:
        codec, num_rows = self.codecs.a, 2 if self.as_pairs else 1
        nothing = np.full(num_rows, -1)
        items = np.zeros((num_rows, *codec.shape), codec.dtype)
        return ItemBatch(items, nothing, nothing, nothing)
