"""The actor that reads, decodes and encodes parts of the plan, wherever CPUs are free."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import NamedTuple

import ray
from ray import cloudpickle

from sharedlayers_dist.data import Batch, PairReader, PairReading
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.same_sources import Sources, describe_difference, read_sources
from sharedlayers_dist.storage.failures import StorageError
from sharedlayers_dist.world import World

_IDLE_SECONDS = 600.0
"""A part that nobody has asked for since is closed: its trainer is gone, or can wait for a seek."""


class Request(NamedTuple):
    """A few steps of one part. It says all there is to know, so any actor can serve it any time."""

    key: str
    """Names what is read: equal keys, equal data and order."""
    part: int
    num_parts: int
    epoch: int
    step: int
    """The first global step asked for."""
    num_steps: int
    """Steps asked for; fewer are read at the end of the epoch."""
    is_repeated: bool = False
    """Whether an actor's process ended before it could answer; then nothing is read ahead."""


class Chunk(NamedTuple):
    """What an actor has read for one request."""

    result: Batch | Exception
    """The part's rows of all steps, end to end, without padding; or what reading failed with."""
    num_truncated: int
    """Truncated items among those encoded since the part's last answer."""
    problem_of_group: dict[int, str]
    """The first bad row of each row group that this actor has met in the part so far."""
    node: str
    """Address of the actor's node."""


class ShardActor:
    """Reads parts of pair datasets for any number of trainers.

    It keeps each part open where the last request for it ended. A request for any other place is
    served by seeking, so nothing is lost with an actor: the one that Ray starts in its place gets
    the requests that were due, and goes on with those.
    """

    def __init__(self, sources: Sources) -> None:
        self._node = ray.util.get_node_ip_address()
        if difference := describe_difference(sources, read_sources(), self._node):
            raise UserError(difference)
        self._readings: dict[str, PairReading] = {}
        self._parts: dict[tuple[str, int, int], _OpenPart] = {}

    def read(self, request: Request, reading: list[ray.ObjectRef]) -> Chunk:
        """Reads a few steps.

        Args:
            request: Which steps of which part of what.
            reading: A reference to the pickled `PairReading`, in a list so that Ray fetches it
                only where this actor does not have it.
        """
        self._close_idle()
        place = (request.key, request.part, request.num_parts)
        if place not in self._parts:
            if request.key not in self._readings:
                self._readings[request.key] = _unpickle(reading)
            world = World(rank=request.part, size=request.num_parts)
            self._parts[place] = _OpenPart(self._readings[request.key].open(world))
        return self._parts[place].read(request, self._node)

    def try_row_group(self, group: int, reading: list[ray.ObjectRef]) -> None:
        """Reads one row group of the dataset, and nothing else; see whether that ends the process.

        Args:
            group: Index of the row group in the dataset or the mixture.
            reading: As in `read`.
        """
        # It may hold bad rows, or its storage may fail, but the process goes on.
        with suppress(UserError, StorageError):
            _unpickle(reading).open(World()).load_row_group(group)

    @ray.method(concurrency_group="health")
    def ping(self) -> None:
        """Answers, also while this actor reads."""

    def _close_idle(self) -> None:
        oldest = time.monotonic() - _IDLE_SECONDS
        for place in [place for place, part in self._parts.items() if part.last_used < oldest]:
            self._parts.pop(place).close()
        in_use = {key for key, _, _ in self._parts}
        self._readings = {key: self._readings[key] for key in in_use}


class _OpenPart:
    """One part, open at one place of an epoch.

    Args:
        reader: Reads the part.
    """

    def __init__(self, reader: PairReader) -> None:
        self._reader = reader
        self._chunks: PrefetchIterator[Batch] | None = None
        self._place = (-1, -1, -1)
        self._num_truncated_reported = 0
        self.last_used = time.monotonic()

    def read(self, request: Request, node: str) -> Chunk:
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
        chunk = Chunk(result, num_truncated, dict(stats.problem_of_group), node)
        self.last_used = time.monotonic()
        return chunk

    def close(self) -> None:
        """Ends the reading ahead."""
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None


def _unpickle(reading: list[ray.ObjectRef]) -> PairReading:
    unpickled: PairReading = cloudpickle.loads(ray.get(reading[0]))
    return unpickled
