"""What every reader of training data is."""

from __future__ import annotations

from typing import Protocol

from sharedlayers_dist.data.reading.batch import Batch, ItemType
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator


class Reader(Protocol):
    """One rank's share of a training set's batches, wherever they are made."""

    wait_seconds: float
    """Seconds that the consumer of `batches` has waited for data so far."""
    error: Exception | None
    """What reading failed with; TensorFlow reports its text alone."""

    @property
    def index(self) -> ItemType:
        """What the items are."""

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of an epoch, the same on every rank."""

    @property
    def num_cut_texts(self) -> int:
        """Truncated texts given so far on this rank."""

    @property
    def num_bad_rows(self) -> int:
        """Bad rows left out so far on this rank."""

    @property
    def problems(self) -> list[str]:
        """Where bad rows lie and what is wrong with them, one line for each row group."""

    def pairs_of_step(self, step: int) -> int:
        """Pairs of global batch `step` over all ranks."""

    def batches(self, epoch: int, start_step: int = 0) -> PrefetchIterator[Batch]:
        """This rank's batches of `epoch` from global step `start_step` on, one for each step."""
