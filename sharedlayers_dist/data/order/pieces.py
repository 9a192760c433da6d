"""The row groups, or parts of them, that an epoch is made of, and the runs they are cut into."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sharedlayers_dist.data.order.permutation import Purpose, Rows, permutation

WINDOW_ROWS = 8192
"""Rows of one stream that the default window shuffles together, if its row groups are smaller."""
_MAX_WINDOW = 64


class Pieces(NamedTuple):
    """Row groups, or parts of them, that an epoch is made of."""

    starts: Rows
    """First row of each in the dataset, shape `(pieces,)`."""
    counts: Rows
    """Rows of each, shape `(pieces,)`."""
    run_lengths: Rows
    """Rows of each that stay together in the shuffling, shape `(pieces,)`."""


def cut_runs(counts: Rows, run_lengths: Rows) -> Rows:
    """Rows of each run, piece by piece: all of a piece have its length but the last.

    Args:
        counts: Rows of each piece, shape `(pieces,)`, none of them 0.
        run_lengths: Rows of a run in each piece, shape `(pieces,)`.
    """
    runs_per_piece = -(-counts // run_lengths)
    runs = np.repeat(run_lengths, runs_per_piece)
    runs[np.cumsum(runs_per_piece) - 1] += counts - runs_per_piece * run_lengths
    return runs


def places_of_runs(runs: Rows, order: Rows) -> Rows:
    """The places of the rows when runs of `runs` rows are put in `order`, shape `(rows,)`."""
    starts = np.cumsum(runs) - runs
    sizes = runs[order]
    return np.arange(sizes.sum()) + np.repeat(starts[order] - np.cumsum(sizes) + sizes, sizes)


def default_window(row_counts: Rows) -> int:
    """Row groups that a stream shuffles together so that about `WINDOW_ROWS` rows mix."""
    rows_per_group = max(1.0, float(row_counts.mean())) if row_counts.size else 1.0
    return int(np.clip(round(WINDOW_ROWS / rows_per_group), 1, _MAX_WINDOW))


def share_rows(num_rows: int, weights: tuple[float, ...]) -> list[int]:
    """Rows of an epoch that each dataset gives, in proportion to `weights`, `num_rows` in all.

    What is left after rounding down goes to the largest remainders, the first of equal ones.
    """
    exact = [num_rows * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for part in by_remainder[: num_rows - sum(shares)]:
        shares[part] += 1
    return shares


def take_pieces(
    row_counts: Rows,
    num_rows: int,
    *,
    seed: int,
    epoch: int,
    part: int,
    run_length: int = 1,
    shuffle: bool = True,
) -> Pieces:
    """The row groups, the outer two perhaps in part, that one dataset gives to one epoch.

    Its passes laid end to end, these are the rows `[epoch * num_rows, (epoch + 1) * num_rows)`.

    Args:
        row_counts: Rows of the dataset's row groups, shape `(row groups,)`.
        num_rows: Rows that the dataset gives to each epoch.
        seed: Seed of the order.
        epoch: Index of the epoch.
        part: Index of the dataset in its mixture.
        run_length: Consecutive rows of a row group that stay together in the shuffling.
        shuffle: False goes through the dataset in its own order in each pass.
    """
    total = int(row_counts.sum())
    group_starts = np.cumsum(row_counts) - row_counts
    begin, end = epoch * num_rows, (epoch + 1) * num_rows
    starts, counts = [], []
    for number in range(begin // total, -(-end // total)):
        order = np.arange(row_counts.size)
        if shuffle:
            order = permutation(order.size, seed=seed, purpose=Purpose.PASS, key=(number, part, 0))
        before = number * total + np.cumsum(row_counts[order]) - row_counts[order]
        first = np.clip(begin - before, 0, row_counts[order])
        last = np.clip(end - before, 0, row_counts[order])
        starts.append((group_starts[order] + first)[last > first])
        counts.append((last - first)[last > first])
    empty = np.empty(0, np.int64)
    all_counts = np.concatenate([empty, *counts])
    return Pieces(
        np.concatenate([empty, *starts]), all_counts, np.full(all_counts.size, run_length)
    )
