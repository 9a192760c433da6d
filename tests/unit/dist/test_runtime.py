"""Joining a run: what a launcher set, what is missing, whose GPU is whose."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sharedlayers_dist import dist
from sharedlayers_dist.dist import gpus
from sharedlayers_dist.world import World
from tests.distributed.environments import without_packages
from tests.distributed.launcher import REPOSITORY


@pytest.fixture(autouse=True)
def _leave_the_run():
    dist.shutdown()
    yield
    dist.shutdown()


@pytest.mark.parametrize(
    ("local_rank", "local_size", "num_gpus", "is_restricted", "index"),
    [
        (0, 2, 0, False, None),
        (1, 2, 2, False, 1),
        (1, 2, 8, True, 1),
        (3, 4, 1, True, 0),
        (0, 1, 1, False, 0),
    ],
)
def test_every_rank_takes_its_gpu(local_rank, local_size, num_gpus, is_restricted, index):
    found = gpus.gpu_of_local_rank(local_rank, local_size, num_gpus, is_restricted=is_restricted)
    assert found == index


@pytest.mark.parametrize(("num_gpus", "is_restricted"), [(1, False), (3, True)])
def test_ranks_do_not_share_a_gpu(num_gpus, is_restricted):
    with pytest.raises(RuntimeError, match="local_size=4, num_gpus="):
        gpus.gpu_of_local_rank(0, 4, num_gpus, is_restricted=is_restricted)


def test_one_process_needs_no_launcher():
    assert dist.init() == World()
    assert (dist.rank(), dist.size()) == (0, 1)


def test_a_gpu_that_is_asked_for_must_be_there():
    with pytest.raises(RuntimeError, match="require_gpu=True"):
        dist.init(require_gpu=True)


def test_the_stall_limit_is_checked():
    with pytest.raises(ValueError, match="stall_limit_seconds=1"):
        dist.init(stall_limit_seconds=1)


def test_nccl_that_is_asked_for_must_be_built(monkeypatch):
    monkeypatch.setenv("HOROVOD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"require_nccl=True.*--gpu"):
        dist.init(require_nccl=True)


def test_ranks_that_do_not_join_are_told(monkeypatch):
    monkeypatch.setenv("HOROVOD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"init\(\)` must be called.*2 processes"):
        dist.size()


def test_without_horovod_one_process_trains_and_ranks_are_told_what_is_missing(tmp_path):
    """In an environment that has everything but Horovod; then one with a Horovod that is broken."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import json, os, pathlib, sys
import keras, numpy as np, tensorflow as tf
from sharedlayers_dist import dist
from sharedlayers_dist.doctor import examine

print("\\n".join(line for line in examine()[0] if "cannot train" in line))
world = dist.init()
optimizer = keras.optimizers.Adam()
assert dist.DistributedOptimizer(optimizer) is optimizer
model = keras.Sequential([keras.Input((3,)), dist.SyncBatchNormalization(), keras.layers.Dense(1)])
model.compile(optimizer, "mse", metrics=["mae"])
callbacks = dist.default_callbacks() + [dist.AgreedEarlyStopping("loss")]
model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0, callbacks=callbacks)
assert dist.exact_metrics(model)["mae"] >= 0
assert dist.allgather_object(3) == [3] and dist.broadcast_object(4) == 4
dist.barrier()
dist.raise_on_all_ranks(None)
assert not any(name.startswith("horovod") for name in sys.modules)

def message():
    try:
        dist.init()
    except RuntimeError as e:
        return str(e)

dist.shutdown()
os.environ["HOROVOD_SIZE"] = "2"
print(message())
broken = pathlib.Path(sys.argv[1])
(broken / "horovod-0.28.1.dist-info").mkdir(parents=True)
(broken / "horovod-0.28.1.dist-info" / "METADATA").write_text("Name: horovod\\nVersion: 0.28.1\\n")
(broken / "horovod").mkdir()
(broken / "horovod" / "__init__.py").write_text("")
(broken / "horovod" / "metadata.json").write_text(json.dumps({"tensorflow": "2.0.0"}))
sys.path.insert(0, str(broken))
print(message())
(broken / "horovod" / "metadata.json").write_text(json.dumps({"tensorflow": tf.__version__}))
print(message())
"""
    )
    environment = without_packages(tmp_path / "packages", "horovod")
    environment["PYTHONPATH"] += f"{os.pathsep}{REPOSITORY}"
    run = subprocess.run(
        [sys.executable, "-S", "-W", "error::UserWarning", program, tmp_path / "broken"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    told, missing, other, unbuilt = run.stdout.strip().splitlines()
    assert told.startswith("several ranks cannot train here: Horovod is not installed")
    assert "2 ranks were started, but Horovod is not installed" in missing
    assert "built for TensorFlow 2.0.0. Received: tensorflow.__version__=" in other
    assert "part for TensorFlow cannot be loaded: No module named 'horovod.tensorflow'" in unbuilt


def test_a_host_that_does_not_know_its_own_name_is_told_before_horovod_crashes():
    program = "from sharedlayers_dist import dist; dist.init()"
    unshare = ["unshare", "--uts", "--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("A host name of the test's own takes user namespaces, which are off here.")
    run = subprocess.run(
        [
            *unshare,
            "sh",
            "-c",
            'hostname nameless && exec "$@"',
            "sh",
            sys.executable,
            "-c",
            program,
        ],
        env=os.environ | {"HOROVOD_SIZE": "2", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "hostname='nameless'. Add a line" in run.stderr.splitlines()[-1]
