"""What ranks have accumulated since the last update, as values: for checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from sharedlayers_dist.dist.collectives import allreduce_sum
from sharedlayers_dist.dist.gradients.accumulation import LocalAccumulation
from sharedlayers_dist.dist.gradients.optimizer import distribution_of
from sharedlayers_dist.errors import UserError


def accumulated_gradients(optimizer: keras.optimizers.Optimizer | None) -> list[np.ndarray]:
    """Returns what the ranks have accumulated since the last update, added up over all of them.

    All ranks must call it, after the same pass. Like the states of metrics these are sums over
    samples, so one rank may go on from them, and any number of others from nothing
    (`resume_accumulated_gradients`). Exact with `op=Average` where batches are counted, and with
    `op=Sum`.

    Args:
        optimizer: Of a model, built; also one that is not distributed.

    Returns:
        The number of passes, int64; the samples in them, float64; and the sum of each variable's
        gradients, times samples, in its dtype. Nothing where an update has just been made, or
        where `backward_passes_per_step` is 1.
    """
    accumulation = _accumulation_of(optimizer)
    passes = 0 if accumulation is None else int(accumulation.passes.numpy())
    if accumulation is None or passes == 0:
        return []
    totals = allreduce_sum([s.numpy().astype(np.float64) for s in accumulation.sums])
    dtypes = [s.dtype.as_numpy_dtype for s in accumulation.sums]
    return [
        np.array(passes, np.int64),
        *(total.astype(dtype) for total, dtype in zip(totals, dtypes, strict=True)),
    ]


def resume_accumulated_gradients(
    optimizer: keras.optimizers.Optimizer, accumulated: Sequence[np.ndarray]
) -> None:
    """Goes on from what `accumulated_gradients` has returned, on one rank alone.

    `BroadcastInitialState` tells the others how many passes there were.

    Args:
        optimizer: Built.
        accumulated: May be empty.

    Raises:
        UserError: if they are of another model, or of another number of passes per step.
    """
    accumulation = _accumulation_of(optimizer)
    if accumulation is not None:
        accumulation.resume(accumulated)
    elif accumulated:
        raise UserError(
            "Accumulated gradients are for an optimizer that accumulates. Received: "
            f"{int(accumulated[0])} passes, for backward_passes_per_step=1."
        )


def _accumulation_of(optimizer: keras.optimizers.Optimizer | None) -> LocalAccumulation | None:
    distribution = distribution_of(optimizer)
    return None if distribution is None else distribution.accumulation
