"""Reading by shard actors: starts them, asks them ahead of time, and joins what they send."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayTaskError

from sharedlayers_dist.data import Batch
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.batch import ItemType, bytes_per_pair, split_steps
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.ray.reading.shard_actor import Chunk, Request, ShardActor
from sharedlayers_dist.ray.reading.shard_plan import TrainerShare, count_parts
from sharedlayers_dist.training.readers import MakeReader, OpenReader
from sharedlayers_dist.world import World

_MOST_BYTES_AT_ONCE = 1 << 25
_REQUESTS_AHEAD = 2
_BATCHES_AHEAD = 4
_SECONDS_BETWEEN_PINGS = 5.0
_SECONDS_WITHOUT_ANSWER = 30.0


def start_shard_actors(num: int, *, cpus: float = 0.0) -> list[Any]:
    """Starts actors for `open_on_actors`, spread over the nodes; they end with their driver.

    Ray starts an actor that died again, on another node if need be, and repeats the calls that
    were due.

    Args:
        num: How many.
        cpus: CPUs that each reserves; with 0 they share those of the node they are on.
    """
    actor = ray.remote(
        num_cpus=cpus,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy="SPREAD",
        concurrency_groups={"health": 1},
        # A request says all there is to know, and an ordered queue may wait for one that never
        # comes: https://github.com/ray-project/ray/issues/50814.
        allow_out_of_order_execution=True,
    )(ShardActor)
    return [actor.remote() for _ in range(num)]


def open_on_actors(actors: Sequence[Any]) -> OpenReader:
    """Lets shard actors do the reading: for `fit(open_reader=...)` on each trainer.

    Args:
        actors: All actors of the run, in the same order on every trainer.
    """

    def open_reader(make: MakeReader, world: World) -> ShardReader:
        return ShardReader(actors, make, world)

    return open_reader


class ShardReader:
    """One trainer's share of the batches, read by shard actors; see `data.Reader`.

    The batches are those that `make(world)` reads itself, row for row. They are put together from
    the parts that several actors have of them; what a single part has comes as it lies in Ray's
    object store, in arrays that cannot be written to.

    For each of its parts the trainer has two requests under way, of many steps each, since what a
    request costs does not depend on its size, and asks for more when it takes up what has come.
    Actors get no further ahead than two more, which they read before they are asked. An iterator
    that is closed early drops what is under way.

    `num_bad_rows` counts rows when they come, each once. `num_cut_texts` counts texts
    when they are encoded, as `PairReader` does: those that were encoded ahead are counted again if
    they are read again, after an actor died or the iterator was closed early.

    Args:
        actors: The run's shard actors, in the same order on every trainer.
        make: Makes the reader of one part; is sent to the actors.
        world: Which trainer this is.
        rows_at_once: This trainer's rows that are asked for at once at most, from all its parts
            (32 MiB of large ones, and one step at least).

    Raises:
        UserError: for more trainers than streams.
    """

    def __init__(
        self, actors: Sequence[Any], make: MakeReader, world: World, *, rows_at_once: int = 16_384
    ) -> None:
        self._plan_only = make(world)  # Reads nothing until it is iterated.
        self._actors = actors
        pickled = cloudpickle.dumps(make)
        self._key = hashlib.sha256(pickled).hexdigest()
        self._make = [ray.put(pickled)]
        num_streams, batch_size = self._plan_only.num_streams, self._plan_only.batch_size
        self._share = TrainerShare(
            world=world,
            num_parts=count_parts(len(actors), num_trainers=world.size, num_streams=num_streams),
            num_streams=num_streams,
            batch_size=batch_size,
        )
        rows = min(rows_at_once, _MOST_BYTES_AT_ONCE // bytes_per_pair(self.index))
        self._steps_per_request = max(1, rows * world.size // batch_size)
        self._nodes = ["unknown, it has never answered"] * len(actors)
        self._problems: dict[str, None] = {}
        self.wait_seconds = 0.0
        """Seconds that the consumer of `batches` has waited for data so far."""
        self.num_cut_texts = 0
        """Texts given so far on this trainer that lost their beginning."""
        self.num_bad_rows = 0
        """Bad rows left out so far on this trainer."""
        self.error: Exception | None = None
        """What reading failed with; TensorFlow reports its text alone."""

    @property
    def index(self) -> ItemType:
        """What the items are."""
        return self._plan_only.index

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of an epoch, the same on every trainer."""
        return self._plan_only.steps_per_epoch

    @property
    def problems(self) -> list[str]:
        """The first bad row of each row group that has some, part by part."""
        return list(self._problems)

    def pairs_of_step(self, step: int) -> int:
        """Pairs of global batch `step` over all trainers."""
        return self._plan_only.pairs_of_step(step)

    def batches(self, epoch: int, start_step: int = 0) -> PrefetchIterator[Batch]:
        """This trainer's batches of `epoch` from global step `start_step` on, one for each step.

        Raises:
            UserError: here, where there is no such step; from the iterator, for data that
                cannot be used.
            RuntimeError: from the iterator, for an actor that is gone and does not come back.
        """
        self._plan_only.plan(epoch).iter_steps(start_step=start_step)  # Raises now.
        return PrefetchIterator(
            lambda: self._fetch(epoch, start_step),
            depth=_BATCHES_AHEAD,
            on_wait=self._add_wait,
        )

    def _add_wait(self, seconds: float) -> None:
        self.wait_seconds += seconds

    def _fetch(self, epoch: int, start_step: int) -> Generator[Batch, None, None]:
        starts = iter(range(start_step, self.steps_per_epoch, self._steps_per_request))
        under_way = deque(self._ask(epoch, step) for step in islice(starts, _REQUESTS_AHEAD))
        try:
            while under_way:
                counts, joined = self._join(*under_way[0])
                under_way.popleft()  # What was joined may leave the object store.
                under_way.extend(self._ask(epoch, step) for step in islice(starts, 1))
                yield from split_steps(joined, counts, self.index)
        except Exception as e:
            self.error = e
            raise

    def _actor_of_part(self, part: int) -> int:
        return part % len(self._actors)

    def _ask(self, epoch: int, step: int) -> tuple[int, list[ray.ObjectRef]]:
        """Asks for the steps from `step` on, each part from its actor."""
        num_parts, num_steps = self._share.num_parts, self._steps_per_request
        return step, [
            self._actors[self._actor_of_part(part)].read.remote(
                Request(self._key, part, num_parts, epoch, step, num_steps), self._make
            )
            for part in self._share.parts
        ]

    def _receive(self, part: int, reference: ray.ObjectRef) -> Batch:
        """Waits for a part's pairs as long as its actor is there, or may come back.

        Raises:
            Exception: what the actor failed with.
        """
        actor = self._actor_of_part(part)
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
        except RayActorError as error:
            raise self._lost(actor) from error
        self._nodes[actor] = chunk.node
        self._problems |= dict.fromkeys(chunk.problems)
        self.num_cut_texts += chunk.num_cut_texts
        if isinstance(chunk.result, Exception):
            raise chunk.result
        return chunk.result

    def _lost(self, actor: int) -> RuntimeError:
        return RuntimeError(
            f"A shard actor is gone and Ray has not started it again within "
            f"{_SECONDS_WITHOUT_ANSWER:g} seconds. Received: shard actor {actor} of "
            f"{len(self._actors)}, last seen on the node {self._nodes[actor]}. Look whether that "
            "node is up and whether any node has the CPUs that --cpus-per-shard-actor asks for; 0 "
            "lets the actors share those of the workers."
        )

    def _join(self, first: int, references: Sequence[ray.ObjectRef]) -> tuple[Rows, Batch]:
        """How many pairs each step from `first` on has, and all of them, end to end."""
        received = [
            self._receive(part, reference)
            for part, reference in zip(self._share.parts, references, strict=True)
        ]
        after = min(first + self._steps_per_request, self.steps_per_epoch)
        num_pairs = sum(self.pairs_of_step(step) for step in range(first, after))
        positions = self._share.positions(first, num_pairs)
        joined = self._share.join(received, positions)
        self.num_bad_rows += int(np.count_nonzero(joined.label < 0))
        steps = positions // self._share.batch_size - first
        return np.bincount(steps, minlength=after - first), joined


def _answers(actor: Any, *, unless: ray.ObjectRef) -> bool:
    """Whether an actor is there: it answers, or what is waited for comes."""
    ping = actor.ping.options(max_task_retries=0).remote()
    ready, _ = ray.wait([unless, ping], timeout=_SECONDS_BETWEEN_PINGS)
    if unless in ready:
        return True
    try:
        ray.get(ping, timeout=0)
    except (ray.exceptions.GetTimeoutError, RayActorError):
        return False
    return True
