"""The actor that reads, decodes and encodes parts of the data, wherever CPUs are free."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import ray
from ray import cloudpickle

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.reading.work import Chunk, OpenPart, Request, Work
from sharedlayers_dist.ray.same_sources import Sources, describe_difference, read_sources
from sharedlayers_dist.storage.failures import StorageError

_IDLE_SECONDS = 600.0
"""A part that nobody has asked for since is closed: its trainer is gone, or can wait for a seek."""


class ShardActor:
    """Reads parts of datasets for any number of trainers.

    It keeps each part open that is asked for. A request says all there is to know, so nothing is
    lost with an actor: the one that Ray starts in its place gets the requests that were due, and
    goes on with those.
    """

    def __init__(self, sources: Sources) -> None:
        self._node = ray.util.get_node_ip_address()
        if difference := describe_difference(sources, read_sources(), self._node):
            raise UserError(difference)
        self._works: dict[str, Work[Any]] = {}
        self._parts: dict[tuple[str, int, int], OpenPart[Any]] = {}

    def read(self, request: Request, work: list[ray.ObjectRef]) -> Chunk:
        """Serves a request.

        Args:
            request: What is asked for.
            work: A reference to the pickled `Work`, in a list so that Ray fetches it only where
                this actor does not have it.
        """
        self._close_idle()
        place = (request.key, request.part, request.num_parts)
        if place not in self._parts:
            if request.key not in self._works:
                self._works[request.key] = _unpickle(work)
            opened = self._works[request.key].open(request.part, request.num_parts)
            self._parts[place] = opened
        return self._parts[place].read(request, self._node)

    def try_row_group(self, group: int, work: list[ray.ObjectRef]) -> None:
        """Reads one row group of the data, and nothing else; see whether that ends the process.

        Args:
            group: Number of the row group.
            work: As in `read`.
        """
        # It may hold bad rows, or its storage may fail, but the process goes on.
        with suppress(UserError, StorageError):
            _unpickle(work).try_row_group(group)

    @ray.method(concurrency_group="health")
    def ping(self) -> str:
        """Answers with the ID of this actor's node, also while it reads."""
        return ray.get_runtime_context().get_node_id()

    def _close_idle(self) -> None:
        oldest = time.monotonic() - _IDLE_SECONDS
        for place in [place for place, part in self._parts.items() if part.last_used < oldest]:
            self._parts.pop(place).close()
        in_use = {key for key, _, _ in self._parts}
        self._works = {key: self._works[key] for key in in_use}


def _unpickle(pickled: list[ray.ObjectRef]) -> Work[Any]:
    work: Work[Any] = cloudpickle.loads(ray.get(pickled[0]))
    return work
