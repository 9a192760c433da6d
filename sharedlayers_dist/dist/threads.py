"""Sharing the cores of a host out to its ranks, and the threads that TensorFlow has on them."""

from __future__ import annotations

import os

import tensorflow as tf

from sharedlayers_dist.world import World

_LEAST_INTER_OP = 2
"""A collective that waits holds a thread."""


def share_cores(world: World) -> None:
    """Gives this rank its share of the cores of its host, so that ranks do not fight for them.

    It is bound to them, as `mpirun` does, unless something has bound it already; threads that start
    later are, too. TensorFlow's pools keep the size that the environment gives them
    (`TF_NUM_INTRAOP_THREADS`, `TF_NUM_INTEROP_THREADS`), or that they have already once TensorFlow
    computes.

    Args:
        world: Which rank this is, among how many on its host.
    """
    if world.local_size == 1:
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(world.cores))  # For what is loaded later.
    _bind_to_cores(world)
    _set_threads(within=world.cores, between=max(_LEAST_INTER_OP, world.cores))


def run_operations_on_one_thread() -> None:
    """Leaves one thread within an operation, for a model that has several of them run at a time.

    That is a recurrent layer by each item's own steps: chunks of items are programs that run beside
    each other, and whose steps are too small to be divided. It has no effect where there is a GPU,
    where the environment gives `TF_NUM_INTRAOP_THREADS`, or once TensorFlow computes.
    """
    if not tf.config.list_physical_devices("GPU"):
        _set_threads(within=1)


def _bind_to_cores(world: World) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < max(os.cpu_count() or 0, world.local_size):
        return
    os.sched_setaffinity(0, cores[world.local_rank * world.cores :][: world.cores])


def _set_threads(*, within: int, between: int | None = None) -> None:
    """Sets the sizes of TensorFlow's pools, as far as they are still to be had."""
    try:
        if "TF_NUM_INTRAOP_THREADS" not in os.environ:
            tf.config.threading.set_intra_op_parallelism_threads(within)
        if between is not None and "TF_NUM_INTEROP_THREADS" not in os.environ:
            tf.config.threading.set_inter_op_parallelism_threads(between)
    except RuntimeError:  # TensorFlow computes already.
        return
