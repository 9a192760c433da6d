"""The threads of ranks that share a host, in processes of their own: a pool is made once."""

import os
import subprocess
import sys

import pytest

CODE = """
import tensorflow as tf
from sharedlayers_dist.dist.threads import share_cores
from sharedlayers_dist.world import World
if {computes}:
    tf.constant(1) + 1
share_cores(World(rank=1, size=4, local_rank=1, local_size={local_size}))
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
"""


@pytest.mark.parametrize(
    ("local_size", "computes", "environment", "expected"),
    [
        (2, False, {}, (max(1, len(os.sched_getaffinity(0)) // 2), None)),
        (1000, False, {}, (1, 2)),
        (1, False, {}, (0, 0)),  # TensorFlow's own choice.
        (2, False, {"TF_NUM_INTRAOP_THREADS": "7", "TF_NUM_INTEROP_THREADS": "9"}, (0, 0)),
        (2, True, {}, (None, None)),
    ],
)
def test_ranks_of_a_host_share_its_cores(local_size, computes, environment, expected):
    if local_size == 1:
        code = CODE.format(computes=computes, local_size=local_size).replace("local_rank=1, ", "")
    else:
        code = CODE.format(computes=computes, local_size=local_size)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TF_NUM_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    for found, wanted in zip(map(int, done.stdout.split()), expected, strict=True):
        assert wanted is None or found == wanted
