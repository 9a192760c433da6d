"""The threads of ranks that share a host, in processes of their own: a pool is made once."""

import os
import subprocess
import sys

import pytest

CODE = """
import os
import tensorflow as tf
from sharedlayers_dist.dist.threads import run_operations_on_one_thread, share_cores
from sharedlayers_dist.world import World
{before}
{call}
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
print(*os.sched_getaffinity(0))
"""
CORES = sorted(os.sched_getaffinity(0))
HALF = max(1, len(CORES) // 2)
SHARE = "share_cores(World(rank=1, size=4, local_rank=1, local_size={}))".format


def run(call, before="", **environment):
    """The sizes of TensorFlow's pools, within and between operations, and the cores."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TF_NUM_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(call=call, before=before)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    pools, cores = done.stdout.splitlines()
    return tuple(map(int, pools.split())), list(map(int, cores.split()))


@pytest.mark.parametrize(
    ("call", "environment", "expected"),
    [
        (SHARE(2), {}, (HALF, max(2, HALF))),
        (SHARE(1000), {}, (1, 2)),
        ("share_cores(World())", {}, (0, 0)),  # TensorFlow's own choice.
        (SHARE(2), {"TF_NUM_INTRAOP_THREADS": "7", "TF_NUM_INTEROP_THREADS": "9"}, (0, 0)),
        ("run_operations_on_one_thread()", {}, (1, 0)),
        ("run_operations_on_one_thread()", {"TF_NUM_INTRAOP_THREADS": "7"}, (0, 0)),
    ],
)
def test_pools_have_the_share_of_a_rank_unless_the_environment_says_another(
    call, environment, expected
):
    assert run(call, **environment)[0] == expected


@pytest.mark.skipif(
    len(CORES) < max(2, os.cpu_count() or 0), reason="needs all cores, and two at least"
)
def test_a_rank_is_bound_to_its_share_of_cores_unless_something_has_bound_it():
    assert run(SHARE(2))[1] == CORES[HALF : 2 * HALF]
    assert run(SHARE(1000))[1] == CORES
    one = {CORES[0]}
    assert run(SHARE(2), before=f"os.sched_setaffinity(0, {one})")[1] == [CORES[0]]


def test_pools_that_compute_already_keep_their_size():
    (within, _), _ = run(SHARE(1000), before="tf.constant(1) + 1")
    assert within != 1
