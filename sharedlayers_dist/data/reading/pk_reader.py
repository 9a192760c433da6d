"""Giving all pairs within batches of P groups times K items."""

from __future__ import annotations

from numpy.typing import NDArray

from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.order.pk_batches import GroupedEpoch, pair_items
from sharedlayers_dist.data.reading.batch import Batch, padding_batch
from sharedlayers_dist.data.reading.groups_reader import GroupsReader


class PKReader(GroupsReader[Batch]):
    """Gives one rank's share of all pairs within batches of P groups times K items.

    It is used like a `PairReader`. Pairs of one group are positives; the weights make positives
    and negatives of each global batch count the same. Each item is encoded once for all pairs of
    its batch. Any number of ranks sees the same batches.

    See `ItemReader` for the arguments, which are the same, and for models that need not see each
    item once for each of its pairs.
    """

    def _items_of_step(self, plan: GroupedEpoch, step: int) -> Rows:
        return plan.items_of_step(step)

    def _make_batch(self, plan: GroupedEpoch, epoch: int, step: int, values: NDArray) -> Batch:
        items = self._items_of_step(plan, step)
        pairs = pair_items(
            self.index.group_of_item[items],
            seed=self.seed,
            epoch=epoch,
            step=step,
            rank=self.world.rank,
            size=self.world.size,
        )
        if not pairs.label.size:
            return padding_batch(self.codecs)
        return Batch(
            a=values[pairs.a],
            b=values[pairs.b],
            label=pairs.label[:, None],
            weight=pairs.weight,
            rows=items[pairs.a] * len(self.index.group_of_item) + items[pairs.b],
        )
