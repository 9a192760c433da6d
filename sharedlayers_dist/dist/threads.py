"""Sharing the cores of a host out to its ranks."""

from __future__ import annotations

import os

import tensorflow as tf

from sharedlayers_dist.world import World

_LEAST_INTER_OP = 2
"""A collective that waits holds a thread."""


def share_cores(world: World) -> None:
    """Gives this rank its share of the cores of its host, so that ranks do not fight for them.

    TensorFlow's pools keep the size that the environment gives them (`TF_NUM_INTRAOP_THREADS`,
    `TF_NUM_INTEROP_THREADS`), or that they have already once TensorFlow computes.

    Args:
        world: Which rank this is, among how many on its host.
    """
    if world.local_size == 1:
        return
    cores = world.cores
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))  # For what is loaded later.
    set_intra_op = tf.config.threading.set_intra_op_parallelism_threads
    set_inter_op = tf.config.threading.set_inter_op_parallelism_threads
    try:
        if "TF_NUM_INTRAOP_THREADS" not in os.environ:
            set_intra_op(cores)
        if "TF_NUM_INTEROP_THREADS" not in os.environ:
            set_inter_op(max(_LEAST_INTER_OP, cores))
    except RuntimeError:  # TensorFlow computes already.
        return
