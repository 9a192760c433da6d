"""What every reader of training data is."""

from __future__ import annotations

from typing import Any, Protocol

from sharedlayers_dist.data.items.codec import PairCodecs
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.data.reading.stats import ReaderStats


class Reader(Protocol):
    """One rank's share of a training set's batches, wherever they are made."""

    stats: ReaderStats
    """What it has met so far on this rank."""

    @property
    def codecs(self) -> PairCodecs:
        """Those of the items of both sides: what shape and type the items of a batch have."""

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of an epoch, the same on every rank."""

    def batches(self, epoch: int, start_step: int = 0) -> PrefetchIterator[Any]:
        """This rank's batches of `epoch` from global step `start_step` on, one for each step.

        A `Batch` of pairs each; an `ItemReader` gives an `ItemBatch` of items.
        """
