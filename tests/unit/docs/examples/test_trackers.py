"""Each tracker's example logs a run's configuration and its epochs once, over a resumption too."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.pairs import write_text_pairs
from tests.runs import read_lines

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples"
READ_MLFLOW = """
import json, mlflow
(run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_loss")
steps = {metric.step: metric.value for metric in history}
params = {name: json.loads(value) for name, value in run.data.params.items()}
print(json.dumps([run.info.status, steps, params]))
"""
READ_TRACKIO = """
import json, sqlite3, sys, trackio
(run,) = trackio.Api().runs("sharedlayers")
rows = sqlite3.connect(sys.argv[1]).execute("SELECT step, metrics FROM metrics").fetchall()
metrics = {step: json.loads(text) for step, text in rows}
steps = {step: values["val_loss"] for step, values in metrics.items() if "val_loss" in values}
print(json.dumps(["FINISHED", steps, run.config]))
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def run_twice(tmp_path):
    """Trains for one epoch, and resumes for another, with a tracker; returns its environment."""
    pairs = write_text_pairs(tmp_path / "pairs", 24)
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "DO_NOT_TRACK": "true",
    }

    def run(tracker):
        if find_spec(tracker) is None:
            pytest.skip(f"{tracker} is not installed: pip install 'sharedlayers_dist[{tracker}]'.")
        for epochs, more in ((1, []), (2, ["--resume"])):
            command = ["train", f"--pairs={pairs}", f"--validation={pairs}", "--output=run", *more]
            command += [f"--epochs={epochs}", "--batch-size=12", "--seed=5"]
            command += ["--callbacks", f"{EXAMPLES}/log_to_{tracker}.py:make_callbacks"]
            ended = subprocess.run(
                [sys.executable, "-m", "sharedlayers_dist", *command],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=280,
            )
            assert ended.returncode == 0, ended.stdout
        return environment

    return run


def epochs_of(run: Path) -> dict[str, Any]:
    lines = [line for line in read_lines(run) if line["event"] == "epoch"]
    return {str(line["epoch"]): pytest.approx(line["val_loss"]) for line in lines}


@pytest.mark.parametrize(("tracker", "code"), [("mlflow", READ_MLFLOW), ("trackio", READ_TRACKIO)])
def test_a_tracker_has_the_configuration_and_both_epochs(run_twice, tmp_path, tracker, code):
    environment = run_twice(tracker)
    asked = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "trackio" / "sharedlayers.db"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert asked.returncode == 0, asked.stderr
    status, steps, config = json.loads(asked.stdout.splitlines()[-1])
    assert status == "FINISHED"
    assert steps == epochs_of(tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: config[name] for name in stored} == stored


def test_weights_and_biases_has_both_epochs_offline(run_twice, tmp_path):
    run_twice("wandb")
    first, second = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert first.name == second.name  # One run there: `wandb sync` puts them together.
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    for file in (first, second):
        held = file.read_bytes()
        assert stored["fingerprint"].encode() in held
        assert b"val_loss" in held
