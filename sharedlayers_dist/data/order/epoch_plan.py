"""Which rows make up each global batch of an epoch, in which order, and which rank reads them.

Everything here is a pure function of plain values; nothing touches a file. The order is made so:

1. The row groups are permuted by a generator keyed on (seed, epoch) and laid end to end: a *line*
   of all R rows. What lies on the line is called a *piece*: a row group, or a part of one where a
   mixture takes only a part.
2. The line is cut into S contiguous *segments*, one per *stream*. Stream j owns
   `ceil((R - j) / S)` rows, so at most S - 1 pieces are cut.
3. A stream walks over its segment in *windows* of a few consecutive pieces. Each piece is cut into
   *runs* of a few consecutive rows, which share items where the dataset was made so (of one row
   each where not); the runs of a window are permuted by a generator keyed on (seed, epoch, stream,
   window), so any window can be made without those before it.
4. Position p of the epoch is item `p // S` of stream `p % S`. Global batch s is the positions
   `[s * B, min((s + 1) * B, R))`.

The ranks do not occur in any of it: rank r of N reads the streams j with `j % N == r`. Hence any
N <= S gives the same global batches in the same order; where N divides both S and B the ranks
get equal shares of every full batch, and where it divides only S shares that differ by one row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.order.options import OrderOptions
from sharedlayers_dist.data.order.permutation import Purpose, Rows, permutation
from sharedlayers_dist.data.order.pieces import Pieces, cut_runs, default_window, places_of_runs
from sharedlayers_dist.data.order.streams import streams_along_line, streams_of_rank
from sharedlayers_dist.errors import UserError


class Window(NamedTuple):
    """A few consecutive pieces of one stream, whose runs of rows are shuffled together."""

    number: int
    first_item: int
    """Items of the stream before the window."""
    rows: Rows
    """Rows of the dataset in the order of the epoch, shape `(rows,)`."""
    piece_starts: Rows
    """First row of each piece that the window has rows of, shape `(up to plan.window,)`."""


class StepRows(NamedTuple):
    """What one rank reads for one global step, or for several in a row."""

    step: int
    """The first global step."""
    rows: Rows
    """Rows of the dataset, in the order of their positions in the epoch."""
    counts: Rows
    """How many of them are each step's, shape `(steps,)`."""
    finished: Rows
    """First row of each piece that this rank's windows have let go of; a reader drops these."""


def count_steps(num_rows: int, batch_size: int) -> int:
    """Global steps of an epoch; the last one may be short."""
    return -(-num_rows // batch_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class EpochPlan:
    """The order of one epoch. Make it with `plan_epoch`; the arrays are O(row groups)."""

    seed: int
    epoch: int
    batch_size: int
    """Rows of a global batch, over all ranks."""
    num_streams: int
    window: int
    """Pieces of a stream whose runs are shuffled together."""
    shuffle: bool
    piece_starts: Rows
    """First row in the dataset of each piece, in the order of the line, shape `(pieces,)`."""
    line: Rows
    """Rows on the line before each piece, and after the last one, shape `(pieces + 1,)`."""
    run_lengths: Rows
    """Rows of a run in each piece, in the order of the line, shape `(pieces,)`."""

    @property
    def num_rows(self) -> int:
        """Rows of the epoch, over all ranks."""
        return int(self.line[-1])

    @property
    def num_steps(self) -> int:
        """Global steps of the epoch: the same on every rank, the last short batch included."""
        return count_steps(self.num_rows, self.batch_size)

    @cached_property
    def segments(self) -> Rows:
        """Line positions `[start, stop)` of each stream's segment, shape `(num_streams, 2)`."""
        order = streams_along_line(self.num_streams, spread=self.shuffle)
        sizes = -(-np.maximum(self.num_rows - order, 0) // self.num_streams)
        stops = np.cumsum(sizes)
        segments = np.empty((self.num_streams, 2), np.int64)
        segments[order] = np.stack([stops - sizes, stops], axis=1)
        return segments

    @cached_property
    def _first_pieces(self) -> Rows:
        """First piece of each stream, and the one after its last, shape `(num_streams, 2)`."""
        starts, stops = self.segments.T
        first = np.searchsorted(self.line, starts, side="right") - 1
        after = np.searchsorted(self.line, stops, side="left")
        return np.stack([first, np.where(stops > starts, after, first)], axis=1)

    @cached_property
    def _is_backward(self) -> NDArray[np.bool_]:
        """Which streams walk their segment from its end, shape `(num_streams,)`.

        Every second one along the line does, so that the two streams that share a cut piece both
        need it at the start of the epoch, or both at its end: a rank that owns both reads it once.
        """
        backward = np.zeros(self.num_streams, np.bool_)
        if self.shuffle:
            backward[streams_along_line(self.num_streams, spread=True)[1::2]] = True
        return backward

    def window_of_item(self, stream: int, item: int) -> int:
        """Index of the window of `stream` that holds its `item`."""
        start, stop = self.segments[stream]
        first, after = self._first_pieces[stream]
        if self._is_backward[stream]:
            piece = np.searchsorted(self.line, stop - 1 - item, side="right") - 1
            return int(after - 1 - piece) // self.window
        piece = np.searchsorted(self.line, start + item, side="right") - 1
        return int(piece - first) // self.window

    def read_window(self, stream: int, window: int) -> Window:
        """The rows of one window of a stream, in the order of the epoch."""
        start, stop = self.segments[stream]
        first, after = self._first_pieces[stream]
        if self._is_backward[stream]:
            pieces = slice(
                max(first, after - (window + 1) * self.window), after - window * self.window
            )
        else:
            pieces = slice(
                first + window * self.window, min(after, first + (window + 1) * self.window)
            )
        piece_starts = self.piece_starts[pieces]
        bounds = np.clip(self.line[pieces.start : pieces.stop + 1], start, stop)
        counts = np.diff(bounds)
        # Line position to row of the dataset: the same shift for all rows of a piece.
        rows = np.arange(bounds[0], bounds[-1])
        rows += np.repeat(piece_starts - self.line[pieces], counts)
        if self.shuffle:
            runs = cut_runs(counts, self.run_lengths[pieces])
            order = permutation(
                runs.size,
                seed=self.seed,
                purpose=Purpose.WINDOW,
                key=(self.epoch, stream, window),
            )
            rows = rows[places_of_runs(runs, order)]
        first_item = stop - bounds[-1] if self._is_backward[stream] else bounds[0] - start
        return Window(window, int(first_item), rows, piece_starts)

    def first_item(self, stream: int, step: int) -> int:
        """Items of `stream` that come before global batch `step`."""
        position = min(step * self.batch_size, self.num_rows)
        return -(-max(position - stream, 0) // self.num_streams)

    def rows_of_step(self, step: int, *, rank: int = 0, size: int = 1) -> Rows:
        """Rows of the dataset that `rank` of `size` reads in global batch `step`, in order."""
        return next(self.iter_steps(rank=rank, size=size, start_step=step)).rows

    def iter_steps(
        self, *, rank: int = 0, size: int = 1, start_step: int = 0, steps_at_once: int = 1
    ) -> Iterator[StepRows]:
        """Yields what `rank` of `size` reads in the global steps from `start_step` on.

        Starting costs one window per stream, wherever it is. Besides the plan a rank holds 8 bytes
        for each row of its streams' current windows. What a stream costs is paid once for all
        `steps_at_once`; the rows are the same.

        Raises:
            UserError: where there are more ranks than streams, or no such step.
        """
        if not 0 <= start_step <= self.num_steps:
            raise UserError(
                f"`start_step` must lie within the epoch's {self.num_steps} steps. "
                f"Received: start_step={start_step}."
            )
        streams = streams_of_rank(self.num_streams, rank=rank, size=size)
        return self._iter_steps(streams, start_step, steps_at_once)

    def _iter_steps(
        self, streams: range, start_step: int, steps_at_once: int
    ) -> Iterator[StepRows]:
        cursors = [_StreamCursor(self, j, self.first_item(j, start_step)) for j in streams]
        # Two streams may hold parts of one piece: it is finished when the last one lets it go.
        holders = Counter(piece for cursor in cursors for piece in cursor.pieces)
        for step in range(start_step, self.num_steps, steps_at_once):
            after = min(step + steps_at_once, self.num_steps)
            rows, positions_of_streams = [], []
            left: set[int] = set()
            for stream, cursor in zip(streams, cursors, strict=True):
                item, stop = cursor.item, self.first_item(stream, after)
                positions_of_streams.append(np.arange(item, stop) * self.num_streams + stream)
                while cursor.item < stop:
                    if cursor.is_at_end_of_window:
                        left.update(cursor.pieces)
                        holders.subtract(cursor.pieces)
                        cursor.enter(cursor.window.number + 1)
                        holders.update(cursor.pieces)
                    rows.append(cursor.take(stop))
            positions = np.concatenate(positions_of_streams)
            yield StepRows(
                step,
                np.concatenate([*rows, np.empty(0, np.int64)])[np.argsort(positions)],
                np.bincount(positions // self.batch_size - step, minlength=after - step),
                np.array([piece for piece in left if not holders[piece]], np.int64),
            )


class _StreamCursor:
    """A place in one stream, and the window it lies in."""

    def __init__(self, plan: EpochPlan, stream: int, item: int) -> None:
        start, stop = plan.segments[stream]
        self.plan, self.stream, self.item = plan, stream, item
        self.window = Window(0, 0, np.empty(0, np.int64), np.empty(0, np.int64))
        if stop > start:
            self.enter(plan.window_of_item(stream, min(item, int(stop - start) - 1)))

    @property
    def pieces(self) -> list[int]:
        """First rows of the pieces of the current window."""
        return self.window.piece_starts.tolist()

    @property
    def is_at_end_of_window(self) -> bool:
        return self.item == self.window.first_item + self.window.rows.size

    def enter(self, window: int) -> None:
        self.window = self.plan.read_window(self.stream, window)

    def take(self, stop: int) -> Rows:
        """The next rows of the window, up to item `stop` of the stream."""
        first = self.item - self.window.first_item
        rows = self.window.rows[first : stop - self.window.first_item]
        self.item += rows.size
        return rows


def plan_epoch(row_counts: Sequence[int] | Rows, options: OrderOptions, *, epoch: int) -> EpochPlan:
    """Plans one epoch over a dataset; of its own, it has single rows shuffled.

    Args:
        row_counts: Rows of each row group, in the dataset's own order; zeros are allowed.
        options: What the order depends on.
        epoch: Index of the epoch, from 0.

    Raises:
        UserError: where there is no row, or the epoch is negative.

    Example:
        >>> options = OrderOptions(seed=0, batch_size=4, num_streams=2, shuffle=False)
        >>> plan_epoch([3, 3], options, epoch=0).rows_of_step(0).tolist()
        [0, 3, 1, 4]
    """
    counts = np.asarray(row_counts, dtype=np.int64)
    run_lengths = np.full(counts.size, options.run_length or 1)
    pieces = Pieces(np.cumsum(counts) - counts, counts, run_lengths)
    return plan_pieces(pieces, options, epoch=epoch)


def plan_pieces(pieces: Pieces, options: OrderOptions, *, epoch: int) -> EpochPlan:
    """Plans one epoch over parts of row groups, which bring their run lengths; see `plan_epoch`."""
    if epoch < 0:
        raise UserError(f"`epoch` must be at least 0. Received: epoch={epoch}.")
    starts, counts, run_lengths = (array[pieces.counts > 0] for array in pieces)
    if counts.size == 0:
        raise UserError("An epoch needs at least one row. Received: num_rows=0.")
    window = default_window(counts) if options.window is None else options.window
    if options.shuffle:
        order = permutation(counts.size, seed=options.seed, purpose=Purpose.LINE, key=(epoch, 0, 0))
        starts, counts, run_lengths = starts[order], counts[order], run_lengths[order]
    return EpochPlan(
        seed=options.seed,
        epoch=epoch,
        batch_size=options.batch_size,
        num_streams=options.num_streams,
        window=window,
        shuffle=options.shuffle,
        piece_starts=starts,
        line=np.concatenate([[0], np.cumsum(counts)]),
        run_lengths=run_lengths,
    )
