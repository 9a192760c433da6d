"""What Ray shows of a run's processes where the user's own `ray.init()` has joined the cluster."""

import json
import os
import subprocess
import sys

import pytest
import ray

from tests.distributed.launcher import REPOSITORY
from tests.distributed.pairs import write_text_pairs
from tests.distributed.test_terminal import find_notes
from tests.runs import make_options

SCRIPT = "tests.distributed.workers.own_cluster"


@pytest.mark.slow
def test_no_process_of_a_run_shows_what_tensorflow_notes(tmp_path, ray_cluster):
    """Workers, shard actors and the control actor; Keras is loaded by the user's callbacks, too."""
    pairs = write_text_pairs(tmp_path / "pairs", 12)
    options = make_options(pairs, tmp_path / "run", epochs=1, launcher="ray", num_workers=2)
    run = subprocess.run(
        [sys.executable, "-m", SCRIPT, json.dumps(options)],
        env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stdout
    assert "(RayTrainWorker pid=" in run.stdout  # What workers print is shown.
    assert "1 steps" in run.stdout
    assert find_notes(run.stdout) == []
