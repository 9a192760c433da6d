"""Sharing the cores of a host out to its ranks."""

from __future__ import annotations

import os

import pyarrow as pa
import tensorflow as tf

_LEAST_INTER_OP = 2
"""A collective that waits holds a thread."""


def share_cores(local_size: int) -> int:
    """Gives this rank its share of the cores of its host, so that ranks do not fight for them.

    TensorFlow's pools keep the size that the environment gives them (`TF_NUM_INTRAOP_THREADS`,
    `TF_NUM_INTEROP_THREADS`), or that they have already once TensorFlow computes.

    Args:
        local_size: Ranks on this host.

    Returns:
        Cores of this rank, at least 1.
    """
    cores = max(1, len(os.sched_getaffinity(0)) // local_size)
    if local_size == 1:
        return cores
    pa.set_cpu_count(cores)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))  # For what is loaded later.
    pools = (
        ("TF_NUM_INTRAOP_THREADS", tf.config.threading.set_intra_op_parallelism_threads, cores),
        (
            "TF_NUM_INTEROP_THREADS",
            tf.config.threading.set_inter_op_parallelism_threads,
            max(_LEAST_INTER_OP, cores),
        ),
    )
    for variable, set_threads, count in pools:
        if variable not in os.environ:
            try:
                set_threads(count)
            except RuntimeError:  # TensorFlow computes already.
                break
    return cores
