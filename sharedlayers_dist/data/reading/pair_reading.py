"""What pairs are read, and in which order: all that a reader needs but the rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sharedlayers_dist.data.damage import OnBadRow
from sharedlayers_dist.data.index import DatasetIndex
from sharedlayers_dist.data.items.codec import PairCodecs
from sharedlayers_dist.data.mixture import DatasetMixture
from sharedlayers_dist.data.order.epoch_plan import EpochPlan, count_steps
from sharedlayers_dist.data.order.options import OrderOptions
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.order.streams import streams_of_rank
from sharedlayers_dist.data.reading.dataset_plan import plan_dataset
from sharedlayers_dist.data.reading.row_group_cache import CacheOptions
from sharedlayers_dist.world import World

if TYPE_CHECKING:
    from sharedlayers_dist.data.reading.pair_reader import PairReader


@dataclass(frozen=True, kw_only=True)
class PairReading:
    """A reading of pairs by any number of ranks. Plain values: it is pickled and sent to others.

    Planning needs no file; only a reader that was opened reads any.

    Example:
        >>> import os
        >>> import pyarrow as pa
        >>> import pyarrow.parquet as pq
        >>> from sharedlayers_dist.data import TextCodec, index_dataset
        >>> os.mkdir("planned")
        >>> pairs = pa.table({"a": ["ab", "b", "a"], "b": ["a", "ba", "b"], "label": [1, 0, 1]})
        >>> pq.write_table(pairs, "planned/part-0.parquet")
        >>> text = TextCodec(length=5, alphabet_size=2, alphabet="ab")
        >>> reading = PairReading(
        ...     index=index_dataset("planned"),
        ...     codecs=PairCodecs(text, text),
        ...     options=OrderOptions(seed=0, batch_size=2, num_streams=1, shuffle=False),
        ... )
        >>> reading.steps_per_epoch, reading.pairs_of_step(1)
        (2, 1)
        >>> with reading.open(World()).batches(epoch=0) as batches:
        ...     [batch.rows.tolist() for batch in batches]
        [[0, 1], [2]]
    """

    index: DatasetIndex | DatasetMixture
    """The dataset, or several."""
    codecs: PairCodecs
    """How the items of both sides become those of a batch."""
    options: OrderOptions
    """What the order depends on."""
    on_bad_row: OnBadRow = "error"
    """`error`, or `skip` to make rows of label -1 and weight 0 of bad ones: they keep their place,
    so that the steps and the order of all others stay the same."""
    requires_label: bool = True
    """False makes NaN of labels that are missing or neither 0 nor 1."""
    cache: CacheOptions | None = None
    """Where copies of row groups are kept, of datasets that are not on a disk; None for nowhere."""

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of an epoch, the same on every rank."""
        return count_steps(self.index.num_rows, self.options.batch_size)

    def pairs_of_step(self, step: int) -> int:
        """Pairs of global batch `step` over all ranks: `batch_size`, or fewer in the last one."""
        return min(self.options.batch_size, self.index.num_rows - step * self.options.batch_size)

    def plan(self, epoch: int) -> EpochPlan:
        """The order of one epoch."""
        return plan_dataset(self.index, self.options, epoch=epoch)

    def row_groups_of(self, rows: Rows) -> Rows:
        """The row group of each of `rows`, numbered over all files and datasets."""
        return np.searchsorted(self.index.row_starts, rows, side="right") - 1

    def check_world(self, world: World) -> None:
        """Refuses ranks without a stream; opens nothing.

        Raises:
            UserError: for more ranks than streams.
        """
        streams_of_rank(self.options.num_streams, rank=world.rank, size=world.size)

    def open(self, world: World) -> PairReader:
        """The reader of one rank.

        Raises:
            UserError: for more ranks than streams, or a cache that cannot be written to.
        """
        from sharedlayers_dist.data.reading.pair_reader import PairReader

        return PairReader(self, world)
