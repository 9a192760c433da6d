"""Ray Tune drives runs on Ray, as launch/ray_tune.py has it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import ray

from tests.distributed.pairs import write_text_pairs

EXAMPLE = Path(__file__).parents[3] / "launch" / "ray_tune.py"


@pytest.mark.slow
def test_tune_tries_learning_rates_and_leaves_a_run_of_each(tmp_path, ray_cluster):
    for name, num_pairs in [("train", 30), ("validation", 12)]:
        write_text_pairs(tmp_path / name, num_pairs)
    options = [
        *("--learning-rates", "0.001", "0.01"),
        *("--pairs", tmp_path / "train", "--validation", tmp_path / "validation"),
        *("--output", tmp_path / "tuned", "--epochs", "1", "--batch-size", "12"),
        *("--num-workers", "2"),
    ]
    ended = subprocess.run(
        [sys.executable, EXAMPLE, *options],
        env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ended.returncode == 0, ended.stderr
    figures = dict(
        line.split(": val_loss ") for line in ended.stdout.splitlines() if ": val_loss " in line
    )
    assert sorted(figures) == ["0.001", "0.01"]
    assert list(figures.values()) == sorted(figures.values(), key=float)
    for rate in figures:
        keras.models.load_model(tmp_path / "tuned" / rate / "model.keras")
