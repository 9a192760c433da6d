"""Pairs, read by shard actors in the order of a plan."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

from ray import cloudpickle

from sharedlayers_dist.data import Batch, PairReader, PairReading
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.ray.reading.work import Chunk
from sharedlayers_dist.world import World


class StepsRequest(NamedTuple):
    """A few steps of one part; see `Request`."""

    key: str
    part: int
    num_parts: int
    epoch: int
    step: int
    """The first global step asked for."""
    num_steps: int
    """Steps asked for; fewer are read at the end of the epoch."""
    is_repeated: bool = False
    """Then nothing is read ahead, which may have ended the process."""

    def repeated(self) -> Self:
        """The same request, made once more."""
        return self._replace(is_repeated=True)


@dataclass(frozen=True)
class PairWork:
    """Pairs in the order of a plan; the result of a request is a `Batch`.

    It holds the part's rows of all steps that were asked for, end to end, without padding.
    """

    reading: PairReading

    @cached_property
    def key(self) -> str:
        """See `Work`."""
        return hashlib.sha256(cloudpickle.dumps(self.reading)).hexdigest()

    def open(self, part: int, num_parts: int) -> _OpenPart:
        """See `Work`."""
        return _OpenPart(self.reading.open(World(rank=part, size=num_parts)))

    def row_groups_of(self, request: StepsRequest) -> list[int]:
        """See `Work`."""
        steps = self.reading.plan(request.epoch).iter_steps(
            rank=request.part,
            size=request.num_parts,
            start_step=request.step,
            steps_at_once=request.num_steps,
        )
        return sorted(set(self.reading.row_groups_of(next(steps).rows).tolist()))

    def place_of_group(self, group: int) -> str:
        """See `Work`."""
        return self.reading.index.place_of_group(group)

    def rows_of_group(self, group: int) -> int:
        """See `Work`."""
        return int(self.reading.index.row_counts[group])

    def try_row_group(self, group: int) -> None:
        """See `Work`."""
        self.reading.open(World()).load_row_group(group)


class _OpenPart:
    """One part, open where the last request for it ended.

    A request for any other place is served by seeking.

    Args:
        reader: Reads the part.
    """

    def __init__(self, reader: PairReader) -> None:
        self._reader = reader
        self._chunks: PrefetchIterator[Batch] | None = None
        self._place = (-1, -1, -1)
        self._num_truncated_reported = 0
        self._cache_reported: Counter[str] = Counter()
        self.last_used = time.monotonic()

    def read(self, request: StepsRequest, node: str) -> Chunk:
        """Reads what is asked for, from where the part stands if it can."""
        place = (request.epoch, request.step, request.num_steps)
        result: Batch | Exception
        try:
            if request.is_repeated:
                self.close()
                result = self._reader.read_steps(*place)
            else:
                if self._chunks is None or self._place != place:
                    self.close()
                    self._chunks = self._reader.chunks(*place)
                result = next(self._chunks)
        except Exception as error:  # Whatever it is, it is the trainer's to raise.
            result = error
            self.close()
        self._place = (request.epoch, request.step + request.num_steps, request.num_steps)
        stats = self._reader.stats
        num_truncated = stats.num_truncated - self._num_truncated_reported
        self._num_truncated_reported += num_truncated
        cache = Counter(stats.cache) - self._cache_reported
        self._cache_reported += cache
        chunk = Chunk(result, num_truncated, dict(stats.problem_of_group), node, cache)
        self.last_used = time.monotonic()
        return chunk

    def close(self) -> None:
        """Ends the reading ahead."""
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None
