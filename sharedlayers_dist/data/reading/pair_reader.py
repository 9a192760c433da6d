"""Reading one rank's share of a pair dataset as batches, in the order of the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from itertools import islice

import numpy as np

from sharedlayers_dist.data.index import DatasetIndex
from sharedlayers_dist.data.items.codec import PairCodecs
from sharedlayers_dist.data.mixture import DatasetMixture
from sharedlayers_dist.data.order.epoch_plan import StepRows
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.batch import (
    Batch,
    join_parts,
    padding_batch,
    split_steps,
    take_rows,
)
from sharedlayers_dist.data.reading.pair_reading import PairReading
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.data.reading.row_groups import (
    RowGroup,
    RowGroupLoader,
    bad_row_error,
)
from sharedlayers_dist.data.reading.stats import ReaderStats
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.bounded_reads import READ_LIMIT_SECONDS, ReadPool, wait_for_read
from sharedlayers_dist.world import World

_LOADING_THREADS = 4
_MOST_BYTES_AT_ONCE = 1 << 24


class PairReader:
    """Reads one rank's share of each global batch; the plan gives the order.

    Batches are made in a background thread, those of several steps at once, and handed out
    `batches_ahead` before they are needed; row groups are read by a few more threads and kept while
    a window of the plan holds them. In memory are, at most, `window` row groups for each of this
    rank's streams, those of the next `2 * rows_at_once` rows, and as many rows of batches.

    Args:
        reading: What is read, and in which order.
        world: Which rank reads.
        batches_ahead: Batches that wait for the consumer at most.
        rows_at_once: Rows of this rank that are made at once at most (16 MiB of large ones, and
            one step at least): what row groups and steps cost is paid once for all of them.
        read_limit_seconds: How long a row group may keep the consumer waiting.

    Raises:
        UserError: for more ranks than streams, a number out of its range, or a cache that cannot be
            written to.
    """

    def __init__(
        self,
        reading: PairReading,
        world: World,
        *,
        batches_ahead: int = 4,
        rows_at_once: int = 8192,
        read_limit_seconds: float = READ_LIMIT_SECONDS,
    ) -> None:
        if batches_ahead < 1:
            raise UserError(
                f"`batches_ahead` must be at least 1. Received: batches_ahead={batches_ahead}."
            )
        reading.check_world(world)
        self.reading = reading
        cache = reading.cache.open() if reading.cache else None
        self.stats = ReaderStats(cache=cache.counts if cache else Counter())
        self.world = world
        self.batches_ahead = batches_ahead
        self.rows_at_once = rows_at_once
        self.read_limit_seconds = read_limit_seconds
        self._loaders = [
            RowGroupLoader(
                part,
                reading.codecs,
                on_bad_row=reading.on_bad_row,
                requires_label=reading.requires_label,
                cache=cache,
            )
            for part in reading.index.parts
        ]

    @property
    def index(self) -> DatasetIndex | DatasetMixture:
        """The dataset, or several."""
        return self.reading.index

    @property
    def codecs(self) -> PairCodecs:
        """Those of the items of both sides."""
        return self.reading.codecs

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of an epoch, the same on every rank."""
        return self.reading.steps_per_epoch

    def batches(self, epoch: int, start_step: int = 0) -> PrefetchIterator[Batch]:
        """This rank's batches of `epoch` from global step `start_step` on, one for each step.

        The threads end with the iterator: when it is exhausted, closed, left as a context manager,
        or dropped.

        Raises:
            UserError: here, where there is no such step; from the iterator, for data that
                cannot be used.
            RuntimeError: from the iterator, for a row group that does not come.
        """
        rows = min(self.rows_at_once, _MOST_BYTES_AT_ONCE // self.codecs.bytes_per_pair)
        steps_at_once = max(1, rows * self.world.size // self.reading.options.batch_size)
        steps = self._plan_steps(epoch, start_step, steps_at_once)

        def make() -> Generator[Batch, None, None]:
            with closing(self._read(steps)) as chunks:
                for counts, batch in chunks:
                    yield from split_steps(batch, counts, self.codecs)

        return PrefetchIterator(make, depth=self.batches_ahead, on_wait=self.stats.add_wait)

    def chunks(self, epoch: int, start_step: int, steps_at_once: int) -> PrefetchIterator[Batch]:
        """Like `batches`, but the rows of `steps_at_once` steps end to end, without padding.

        One chunk waits for the consumer at most, and another is in the making.
        """
        steps = self._plan_steps(epoch, start_step, steps_at_once)

        def make() -> Generator[Batch, None, None]:
            with closing(self._read(steps)) as chunks:
                for _, batch in chunks:
                    yield batch

        return PrefetchIterator(make, depth=1, on_wait=self.stats.add_wait)

    def read_steps(self, epoch: int, start_step: int, num_steps: int) -> Batch:
        """The rows of `num_steps` steps end to end, without padding, and nothing read ahead."""
        steps = self._plan_steps(epoch, start_step, num_steps)
        with closing(self._read(islice(steps, 1))) as read:
            _, batch = next(read)
        return batch

    def load_row_group(self, group: int) -> RowGroup:
        """Reads and decodes row group `group` of the dataset, or of the mixture, by itself."""
        part, group_of_part = self.index.part_of_group(group)
        loaded = self._loaders[part].load(group_of_part)
        if loaded.problem:
            self.stats.problem_of_group[group] = loaded.problem
        return loaded

    def _plan_steps(self, epoch: int, start_step: int, steps_at_once: int) -> Iterator[StepRows]:
        return self.reading.plan(epoch).iter_steps(
            rank=self.world.rank,
            size=self.world.size,
            start_step=start_step,
            steps_at_once=steps_at_once,
        )

    def _read(self, steps: Iterator[StepRows]) -> Generator[tuple[Rows, Batch], None, None]:
        """Makes the rows of each of `steps`; gives how many each step has, and all end to end."""
        cache: dict[int, Future[RowGroup]] = {}

        def plan_next(pool: ReadPool) -> tuple[StepRows | None, set[int]]:
            planned = next(steps, None)
            rows = planned.rows if planned else np.empty(0, np.int64)
            needed = set(self.reading.row_groups_of(rows).tolist())
            for group in sorted(needed - cache.keys()):
                cache[group] = pool.submit(self.load_row_group, group)
            return planned, needed

        with (
            self.stats.keeping_error(),
            ReadPool(_LOADING_THREADS, name="sharedlayers-row-groups") as pool,
        ):
            planned, _ = plan_next(pool)
            while planned is not None:
                upcoming, needed = plan_next(pool)  # Loaded while these rows are made.
                yield planned.counts, self._gather(planned.rows, cache)
                # Several pieces of a mixture may lie in one row group.
                finished = self.reading.row_groups_of(planned.finished)
                for group in set(finished.tolist()) - needed:
                    cache.pop(group, None)
                planned = upcoming

    def _wait_for(self, group: int, loading: Future[RowGroup]) -> RowGroup:
        place = self.index.place_of_group(group)
        return wait_for_read(
            loading,
            what=f"{place}, on rank {self.world.rank} of {self.world.size}",
            limit_seconds=self.read_limit_seconds,
        )

    def _gather(self, rows: Rows, cache: dict[int, Future[RowGroup]]) -> Batch:
        if rows.size == 0:
            return Batch._make(values[:0] for values in padding_batch(self.codecs))
        group_of_row = self.reading.row_groups_of(rows)
        by_group = np.argsort(group_of_row, kind="stable")
        groups, first = np.unique(group_of_row[by_group], return_index=True)
        parts = [
            take_rows(
                self._wait_for(group, cache[group]), rows[places] - self.index.row_starts[group]
            )
            for group, places in zip(groups.tolist(), np.split(by_group, first[1:]), strict=True)
        ]
        batch, num_truncated, bad = join_parts(parts, np.argsort(by_group), rows, self.codecs)
        for place, reason in bad.items():
            self._reject(int(rows[place]), reason)
        self.stats.num_truncated += num_truncated
        self.stats.num_bad_rows += int(np.count_nonzero(batch.label < 0))
        return batch

    def _reject(self, row: int, reason: str) -> None:
        """Notes a row that only encoding has found to be bad, or raises for it."""
        problem = f"{self.index.place_of_row(row)}: {reason}"
        if self.reading.on_bad_row == "error":
            raise bad_row_error(problem)
        group = int(self.reading.row_groups_of(np.array(row)))
        self.stats.problem_of_group.setdefault(group, problem)
