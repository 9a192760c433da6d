import json

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.training.metrics_log import MetricsLog, TensorBoardLog


def test_lines_that_will_be_written_again_or_are_cut_short_are_dropped(tmp_path):
    files = LocalFolder(tmp_path)
    log = MetricsLog(files, "metrics.jsonl", after=0)
    for step in (2, 4, 6):
        log.append({"step": step, "loss": 1 / step})
    files.append("metrics.jsonl", b'{"step": 3, "lo')
    log = MetricsLog(files, "metrics.jsonl", after=4)
    log.append({"step": 6, "loss": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 2, "loss": 0.5},
        {"step": 4, "loss": 0.25},
        {"step": 6, "loss": 0.5},
    ]


def test_figures_that_are_not_finite_are_null(tmp_path):
    log = MetricsLog(LocalFolder(tmp_path), "metrics.jsonl", after=0)
    log.append({"event": "step", "step": 1, "loss": float("nan"), "val_loss": float("-inf")})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"event": "step", "step": 1, "loss": null, "val_loss": null}\n'


def scalars(folder) -> list[tuple[str, int, float]]:
    """Tag, step and value of every event, as TensorBoard's own loader finds them."""
    return [
        (value.tag, event.step, float(tf.make_ndarray(value.tensor)))
        for path in sorted((folder / "tensorboard").iterdir())
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def test_tensorboard_repeats_no_step_after_a_resume(tmp_path):
    files = LocalFolder(tmp_path)
    log = TensorBoardLog(files, after=0)
    for step in (2, 4, 6):
        log.append({"event": "step", "step": step, "loss": 0.5})
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-3])  # As a kill leaves it.
    log = TensorBoardLog(files, after=4)
    log.append({"event": "epoch", "step": 6, "loss": 0.25})
    assert scalars(tmp_path) == [("loss", 2, 0.5), ("loss", 4, 0.5), ("epoch_loss", 6, 0.25)]
    TensorBoardLog(files, after=6)
    assert len(scalars(tmp_path)) == 3


def test_tensorboard_is_for_local_runs(object_store):
    with pytest.raises(UserError, match="to a local run folder only"):
        TensorBoardLog(open_folder(f"s3://bucket/run?endpoint_override={object_store}"), after=0)
