"""Reading by shard actors: asks them ahead of time, and joins what they send."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import ray

from sharedlayers_dist.data import Batch, PairCodecs, PairReading
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.batch import split_steps
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.data.reading.stats import ReaderStats
from sharedlayers_dist.ray.reading.pair_work import PairWork, StepsRequest
from sharedlayers_dist.ray.reading.shard_plan import TrainerShare, count_parts
from sharedlayers_dist.ray.reading.shard_requests import ShardRequests
from sharedlayers_dist.world import World

_MOST_BYTES_AT_ONCE = 1 << 25
_REQUESTS_AHEAD = 2
_BATCHES_AHEAD = 4


class ShardReader:
    """One trainer's share of the batches, read by shard actors; see `data.Reader`.

    The batches are those of `reading.open(world)`, row for row. They are put together from
    the parts that several actors have of them; what a single part has comes as it lies in Ray's
    object store, in arrays that cannot be written to.

    For each of its parts the trainer has two requests under way, of many steps each, since what a
    request costs does not depend on its size, and asks for more when it takes up what has come.
    Actors get no further ahead than two more, which they read before they are asked. An iterator
    that is closed early drops what is under way.

    Bad rows are counted when they come, each once. Truncated items are counted when they are
    encoded, as `PairReader` does: those that were encoded ahead are counted again if they are read
    again, after an actor died or the iterator was closed early.

    Args:
        actors: The run's shard actors, in the same order on every trainer.
        reading: What is read, and in which order; is sent to the actors. Here it is only planned,
            and no file is opened.
        world: Which trainer this is.
        rows_at_once: This trainer's rows that are asked for at once at most, from all its parts
            (32 MiB of large ones, and one step at least).

    Raises:
        UserError: for more trainers than streams.
    """

    def __init__(
        self,
        actors: Sequence[Any],
        reading: PairReading,
        world: World,
        *,
        rows_at_once: int = 16_384,
    ) -> None:
        reading.check_world(world)
        self.reading = reading
        self.stats = ReaderStats()
        self._work = PairWork(reading)
        self._requests = ShardRequests(actors, self._work)
        num_streams, batch_size = reading.options.num_streams, reading.options.batch_size
        self._share = TrainerShare(
            world=world,
            num_parts=count_parts(len(actors), num_trainers=world.size, num_streams=num_streams),
            num_streams=num_streams,
            batch_size=batch_size,
        )
        rows = min(rows_at_once, _MOST_BYTES_AT_ONCE // self.codecs.bytes_per_pair)
        self._steps_per_request = max(1, rows * world.size // batch_size)

    @property
    def codecs(self) -> PairCodecs:
        """Those of the items of both sides."""
        return self.reading.codecs

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of an epoch, the same on every trainer."""
        return self.reading.steps_per_epoch

    def batches(self, epoch: int, start_step: int = 0) -> PrefetchIterator[Batch]:
        """This trainer's batches of `epoch` from global step `start_step` on, one for each step.

        Raises:
            UserError: here, where there is no such step; from the iterator, for data that
                cannot be used.
            RuntimeError: from the iterator, for an actor that is gone and does not come back.
        """
        self.reading.plan(epoch).iter_steps(start_step=start_step)  # Raises now.
        return PrefetchIterator(
            lambda: self._fetch(epoch, start_step),
            depth=_BATCHES_AHEAD,
            on_wait=self.stats.add_wait,
        )

    def _fetch(self, epoch: int, start_step: int) -> Generator[Batch, None, None]:
        starts = iter(range(start_step, self.steps_per_epoch, self._steps_per_request))
        with self.stats.keeping_error():
            under_way = deque(self._ask(epoch, step) for step in islice(starts, _REQUESTS_AHEAD))
            while under_way:
                counts, joined = self._join(*under_way[0])
                under_way.popleft()  # What was joined may leave the object store.
                under_way.extend(self._ask(epoch, step) for step in islice(starts, 1))
                yield from split_steps(joined, counts, self.codecs)

    def _ask(self, epoch: int, step: int) -> tuple[list[StepsRequest], list[ray.ObjectRef]]:
        """Asks for the steps from `step` on, each part from its actor."""
        key, num_parts = self._work.key, self._share.num_parts
        requests = [
            StepsRequest(key, part, num_parts, epoch, step, self._steps_per_request)
            for part in self._share.parts
        ]
        return requests, [self._requests.send(request) for request in requests]

    def _receive(self, request: StepsRequest, reference: ray.ObjectRef) -> Batch:
        """Waits for a part's pairs.

        Raises:
            Exception: what the actor failed with.
        """
        chunk = self._requests.receive(request, reference)
        self.stats.problem_of_group |= chunk.problem_of_group
        self.stats.num_truncated += chunk.num_truncated
        self.stats.cache.update(chunk.cache)
        if isinstance(chunk.result, Exception):
            raise chunk.result
        batch: Batch = chunk.result
        return batch

    def _join(
        self, requests: Sequence[StepsRequest], references: Sequence[ray.ObjectRef]
    ) -> tuple[Rows, Batch]:
        """How many pairs each step that was asked for has, and all of them, end to end."""
        received = [
            self._receive(request, reference)
            for request, reference in zip(requests, references, strict=True)
        ]
        first = requests[0].step
        after = min(first + self._steps_per_request, self.steps_per_epoch)
        num_pairs = sum(self.reading.pairs_of_step(step) for step in range(first, after))
        positions = self._share.positions(first, num_pairs)
        joined = self._share.join(received, positions)
        self.stats.num_bad_rows += int(np.count_nonzero(joined.label < 0))
        steps = positions // self._share.batch_size - first
        return np.bincount(steps, minlength=after - first), joined
