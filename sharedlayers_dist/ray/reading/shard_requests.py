"""Asking shard actors, however often their processes end meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from typing import Any, Generic

import ray
from ray import cloudpickle
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)

from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.ray.reading.shard_actor import ShardActor
from sharedlayers_dist.ray.reading.work import Chunk, R, Work
from sharedlayers_dist.ray.same_sources import read_sources

_SECONDS_BETWEEN_PINGS = 5.0
_SECONDS_WITHOUT_ANSWER = 30.0
_SECONDS_BETWEEN_REFUSALS = 0.5
_TRIES = 3
"""How often a request may end an actor's process before each of its row groups is tried alone."""
_SECONDS_TO_TRY_ALONE = 30.0
_ENDED = (RayActorError, OutOfMemoryError, ObjectLostError)
"""An actor's process, or its node with what it had read, is gone."""


def start_shard_actors(num: int, *, cpus: float = 0.0) -> list[Any]:
    """Starts actors that read for the trainers, spread over the nodes; they end with their driver.

    Ray starts an actor that died again, on another node if need be. `ShardRequests` repeats what
    was due, and counts how often.

    Args:
        num: How many.
        cpus: CPUs that each reserves; with 0 they share those of the node they are on.
    """
    actor = ray.remote(
        num_cpus=cpus,
        max_restarts=-1,
        max_task_retries=0,
        scheduling_strategy="SPREAD",
        concurrency_groups={"health": 1},
        # A request says all there is to know, and an ordered queue may wait for one that never
        # comes: https://github.com/ray-project/ray/issues/50814.
        allow_out_of_order_execution=True,
    )(ShardActor)
    sources = read_sources()
    return [actor.remote(sources) for _ in range(num)]


class ShardRequests(Generic[R]):
    """One trainer's requests to the shard actors.

    Args:
        actors: The run's shard actors, in the same order on every trainer.
        work: What is read; is sent to the actors.
    """

    def __init__(self, actors: Sequence[Any], work: Work[R]) -> None:
        self._actors = actors
        self._work = work
        self._pickled = [ray.put(cloudpickle.dumps(work))]
        self._nodes = ["unknown, it has never answered"] * len(actors)

    def send(self, request: R) -> ray.ObjectRef:
        """Asks the part's actor, and does not wait."""
        actor = self._actors[self._actor_of_part(request.part)]
        return actor.read.remote(request, self._pickled)

    def receive(self, request: R, reference: ray.ObjectRef) -> Chunk:
        """Waits for what was asked for; asks again where the actor's process ended meanwhile.

        Another trainer's request, or what was read ahead, may have ended it. So a request is
        repeated without reading ahead, and a few times more where none of its row groups ends a
        process by itself: the trainer that asked for the one to blame finds it.

        Args:
            request: What was asked for.
            reference: What `send` gave for it.

        Raises:
            UserError: for a row group that ends every process that reads it.
            RuntimeError: for an actor that is gone, or ends again and again without such a cause.
            Exception: what opening the reader failed with.
        """
        actor = self._actor_of_part(request.part)
        for num_ends in count(1):
            try:
                chunk = self._wait_for(actor, reference)
                break
            except ActorDiedError as error:  # Ray will not start it again.
                raise self._lost(actor, error) from error
            except _ENDED as error:
                if num_ends % _TRIES == 0:
                    self._try_alone(request, num_ends)
                if num_ends == 2 * _TRIES:
                    raise self._hopeless(request, num_ends) from error
                self._wait_until_back(actor)  # Till then Ray refuses what it is asked.
                reference = self.send(request.repeated())
        self._nodes[actor] = chunk.node
        return chunk

    def _actor_of_part(self, part: int) -> int:
        return part % len(self._actors)

    def _wait_for(self, actor: int, reference: ray.ObjectRef) -> Chunk:
        """Waits as long as the actor is there, or may come back."""
        last_answer = time.monotonic()
        try:
            while not ray.wait([reference], timeout=_SECONDS_BETWEEN_PINGS)[0]:
                if _answers(self._actors[actor], unless=reference):
                    last_answer = time.monotonic()
                elif time.monotonic() - last_answer >= _SECONDS_WITHOUT_ANSWER:
                    raise self._lost(actor)
            chunk: Chunk = ray.get(reference)
        except RayTaskError as error:
            raise error.cause from None
        return chunk

    def _wait_until_back(self, actor: int) -> None:
        deadline = time.monotonic() + _SECONDS_WITHOUT_ANSWER
        while not _answers(self._actors[actor]):
            if time.monotonic() >= deadline:
                raise self._lost(actor)
            time.sleep(_SECONDS_BETWEEN_REFUSALS)

    def _try_alone(self, request: R, num_ends: int) -> None:
        """Tries each row group of a request in a process that reads nothing else.

        Raises:
            UserError: for a row group that ends this process too.
        """
        deadline = time.monotonic() + _SECONDS_TO_TRY_ALONE
        (actor,) = start_shard_actors(1)
        try:
            for group in self._work.row_groups_of(request):
                tried = actor.try_row_group.remote(group, self._pickled)
                ray.get(tried, timeout=max(0.0, deadline - time.monotonic()))
        except GetTimeoutError:
            return
        except _ENDED as error:
            raise UserError(
                "A row group must fit into the memory of the process that reads it. Received: "
                f"{self._work.place_of_group(group)}, with {self._work.rows_of_group(group)} rows, "
                f"whose reading has ended a process {num_ends + 1} times; the last one read "
                "nothing else. Write the data anew in smaller row groups, or use nodes with more "
                "memory; if memory is not what they lack, Ray's logs say what ended them."
            ) from error
        finally:
            ray.kill(actor)

    def _hopeless(self, request: R, num_ends: int) -> RuntimeError:
        groups = self._work.row_groups_of(request)
        first, last = (self._work.place_of_group(groups[i]) for i in (0, -1))
        return RuntimeError(
            f"A shard actor's process has ended {num_ends} times before it could answer the same "
            f"request. Received: shard actor {self._actor_of_part(request.part)} of "
            f"{len(self._actors)}, which was to read {len(groups)} row groups from {first}, to "
            f"{last}; none of these ends a process by itself. Ray's logs say what ended it; if "
            "that was for want of memory, use fewer shard actors on a node, or nodes with more "
            "memory."
        )

    def _lost(self, actor: int, error: ActorDiedError | None = None) -> RuntimeError:
        reason = f" ({one_line(error)})" if error is not None and error.actor_init_failed else ""
        return RuntimeError(
            f"A shard actor is gone and Ray has not started it again within "
            f"{_SECONDS_WITHOUT_ANSWER:g} seconds{reason}. Received: shard actor {actor} of "
            f"{len(self._actors)}, last seen on the node {self._nodes[actor]}. Look whether that "
            "node is up and whether any node has the CPUs that --cpus-per-shard-actor asks for; 0 "
            "lets the actors share those of the workers."
        )


def _answers(actor: Any, *, unless: ray.ObjectRef | None = None) -> bool:
    """Whether an actor is there: it answers, or what is waited for comes."""
    ping = actor.ping.remote()
    awaited = [ping] if unless is None else [unless, ping]
    ready, _ = ray.wait(awaited, timeout=_SECONDS_BETWEEN_PINGS)
    if unless in ready:
        return True
    try:
        ray.get(ping, timeout=0)
    except (GetTimeoutError, RayActorError):
        return False
    return True
