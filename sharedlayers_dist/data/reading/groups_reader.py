"""What the readers of batches of P groups times K items have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.items.codec import ItemCodec, PairCodecs
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.order.pk_batches import GroupedEpoch, plan_groups
from sharedlayers_dist.data.reading.grouped_items import GroupedItems
from sharedlayers_dist.data.reading.item_loader import LocalItemLoader, OpenItems
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.data.reading.stats import ReaderStats
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World

B = TypeVar("B")


class GroupsReader(ABC, Generic[B]):
    """What both readers of groups of items have in common.

    Args:
        index: The items.
        codec: How they become those of a batch; the codec they were read with, or one that differs
            from it in what it encodes alone (an alphabet).
        groups_per_batch: P, groups of a global batch.
        items_per_group: K, the most items of a group in a batch.
        seed: Seed of the order.
        world: Which rank reads.
        batches_ahead: Batches that wait for the consumer at most.
        open_items: Opens what gives them; by default they are held on this host.

    Raises:
        UserError: where the items make no pairs of both kinds, or a number is out of its range.
    """

    has_whole_chunks = False
    """Whether a group gives K items to a batch or none."""

    def __init__(
        self,
        index: GroupedItems,
        *,
        codec: ItemCodec,
        groups_per_batch: int,
        items_per_group: int,
        seed: int,
        world: World,
        batches_ahead: int = 4,
        open_items: OpenItems = LocalItemLoader,
    ) -> None:
        if batches_ahead < 1:
            raise UserError(
                f"`batches_ahead` must be at least 1. Received: batches_ahead={batches_ahead}."
            )
        self.index = index
        self.codecs = PairCodecs(codec, codec)
        """Those of the items of both sides."""
        self.groups_per_batch = groups_per_batch
        self.items_per_group = items_per_group
        self.seed = seed
        self.world = world
        self.batches_ahead = batches_ahead
        self._loader = open_items(index, codec)
        self.negatives: NDArray[np.integer] | None = None
        """Items that each item is hard to tell from, as `plan_groups` takes them: what the epochs
        go by that are read from now on."""
        # Every rank left the bad rows out when it read the items, so that one of them counts.
        self.stats = ReaderStats(
            num_bad_rows=index.num_bad_rows if world.is_rank_zero else 0,
            problem_of_group=dict(enumerate(index.problems)),
        )
        self.steps_per_epoch = self.plan(0).num_steps
        """Global steps of an epoch, the same on every rank and in every epoch."""

    def plan(self, epoch: int) -> GroupedEpoch:
        """The batches of one epoch."""
        return plan_groups(
            self.index.group_of_item,
            groups_per_batch=self.groups_per_batch,
            items_per_group=self.items_per_group,
            seed=self.seed,
            epoch=epoch,
            whole_chunks=self.has_whole_chunks,
            negatives=self.negatives,
        )

    @property
    def items_of_epochs(self) -> Rows:
        """The items that any epoch takes, ascending."""
        group = self.index.group_of_item
        least = self.items_per_group if self.has_whole_chunks else 1
        return np.flatnonzero(np.bincount(group)[group] >= least)

    def read_items(self, blocks: Iterable[Rows]) -> Iterator[NDArray]:
        """Gives the items of each block as a batch has them, `(n, *shape)`."""
        for values, *_ in self._loader.load(blocks):
            yield values

    def batches(self, epoch: int, start_step: int = 0) -> PrefetchIterator[B]:
        """This rank's batches of `epoch` from global step `start_step` on, one for each step.

        Raises:
            UserError: where there is no such step.
        """
        plan = self.plan(epoch)
        if not 0 <= start_step <= plan.num_steps:
            raise UserError(
                f"`start_step` must lie within the epoch's {plan.num_steps} steps. "
                f"Received: start_step={start_step}."
            )
        return PrefetchIterator(
            lambda: self._make_batches(plan, epoch, start_step),
            depth=self.batches_ahead,
            on_wait=self.stats.add_wait,
        )

    def _make_batches(
        self, plan: GroupedEpoch, epoch: int, start_step: int
    ) -> Generator[B, None, None]:
        steps = range(start_step, plan.num_steps)
        with self.stats.keeping_error():
            loaded = self._loader.load(self._items_of_step(plan, step) for step in steps)
            for step, (values, num_truncated, _) in zip(steps, loaded, strict=True):
                self.stats.num_truncated += num_truncated
                yield self._make_batch(plan, epoch, step, values)

    @abstractmethod
    def _items_of_step(self, plan: GroupedEpoch, step: int) -> Rows:
        """The items that this rank needs for one step."""

    @abstractmethod
    def _make_batch(self, plan: GroupedEpoch, epoch: int, step: int, values: NDArray) -> B:
        """This rank's batch of one step, of the encoded items that it needs for it."""
