"""The order of the samples of a dataset, or of several read as one."""

from __future__ import annotations

import numpy as np

from sharedlayers_dist.data.index import DatasetIndex
from sharedlayers_dist.data.mixture import DatasetMixture
from sharedlayers_dist.data.order.epoch_plan import EpochPlan, plan_pieces
from sharedlayers_dist.data.order.options import OrderOptions
from sharedlayers_dist.data.order.pieces import Pieces, share_rows, take_pieces


def plan_dataset(
    dataset: DatasetIndex | DatasetMixture, options: OrderOptions, *, epoch: int
) -> EpochPlan:
    """Plans one epoch; where the options have no run length, each dataset has its own.

    Args:
        dataset: A dataset, or several, each of which gives its share to every epoch.
        options: What the order depends on.
        epoch: Index of the epoch, from 0.

    Raises:
        UserError: where the epoch is negative.
    """
    if isinstance(dataset, DatasetIndex):
        return plan_pieces(_all_pieces(dataset, options), options, epoch=epoch)
    taken = []
    first_row = 0
    shares = share_rows(dataset.num_rows, dataset.weights)
    for number, (part, share) in enumerate(zip(dataset.parts, shares, strict=True)):
        pieces = take_pieces(
            part.row_counts,
            share,
            seed=options.seed,
            epoch=epoch,
            part=number,
            run_length=_run_length(part, options),
            shuffle=options.shuffle,
        )
        taken.append(pieces._replace(starts=pieces.starts + first_row))
        first_row += part.num_rows
    together = Pieces(*(np.concatenate(arrays) for arrays in zip(*taken, strict=True)))
    return plan_pieces(together, options, epoch=epoch)


def _all_pieces(index: DatasetIndex, options: OrderOptions) -> Pieces:
    counts = index.row_counts
    run_lengths = np.full(counts.size, _run_length(index, options))
    return Pieces(index.row_starts[:-1], counts, run_lengths)


def _run_length(index: DatasetIndex, options: OrderOptions) -> int:
    return index.run_length if options.run_length is None else options.run_length
