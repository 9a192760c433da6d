"""Sharing the cores of a host out to its ranks."""

from __future__ import annotations

import os

import tensorflow as tf

_LEAST_INTER_OP = 2
"""A collective that waits holds a thread."""


def cores_of_rank(local_size: int) -> int:
    """The cores of this process, shared out to so many ranks of its host; at least 1.

    Example:
        >>> cores_of_rank(10**6)
        1
    """
    return max(1, len(os.sched_getaffinity(0)) // local_size)


def share_cores(local_size: int) -> None:
    """Gives this rank its share of the cores of its host, so that ranks do not fight for them.

    TensorFlow's pools keep the size that the environment gives them (`TF_NUM_INTRAOP_THREADS`,
    `TF_NUM_INTEROP_THREADS`), or that they have already once TensorFlow computes.

    Args:
        local_size: Ranks on this host.
    """
    if local_size == 1:
        return
    cores = cores_of_rank(local_size)
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
