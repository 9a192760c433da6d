"""Trainings in this process: that go on, that fail, and whose folder another takes over.

That a run goes on as if nothing had happened is in tests/distributed/test_kills.py.
"""

import json
import shutil
from dataclasses import replace

import keras
import pytest
from pyarrow import fs

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.storage.folder import open_folder
from sharedlayers_dist.storage.holder import Holder
from sharedlayers_dist.storage.run_lock import LOCK
from sharedlayers_dist.training.checkpoints.files import list_checkpoints
from sharedlayers_dist.training.checkpoints.manager import CheckpointWriteError
from sharedlayers_dist.training.controls import make_controls
from tests.object_store import make_bucket, make_uri
from tests.runs import read_last_checkpoint, read_lines
from tests.unit.training.finished_run import Witness, config, read_files


def test_a_finished_run_resumed_does_nothing(trained, run):
    before, witness = read_files(run), Witness()
    result = train(config(trained, "copy", resume=True), [witness])
    assert witness.num_steps == 0
    assert read_files(run) == before
    assert (result.steps, result.epochs) == (4, 2)
    *_, line = read_lines(run)
    assert result.metrics["loss"] == line["loss"]
    assert result.metrics.keys() == {"loss", "accuracy", "roc_auc"}


def test_a_finished_run_goes_on_with_more_epochs(trained, run):
    witness = Witness()
    result = train(config(trained, "copy", resume=True, epochs=3), [witness])
    assert (result.steps, result.epochs, witness.num_steps) == (6, 3, 2)
    shutil.rmtree(trained / "longer", ignore_errors=True)
    train(config(trained, "longer", epochs=3))
    actual, expected = read_last_checkpoint(run), read_last_checkpoint(trained / "longer")
    for name, tensor in expected.tensors.items():
        assert actual.tensors[name].tobytes() == tensor.tobytes(), name


class Failing(keras.callbacks.Callback):
    """Fails in the third step, which is the first of an epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 3:
            raise RuntimeError("the third step failed")


def test_a_run_that_fails_leaves_all_its_lines_on_an_object_store(trained, object_store):
    """Those since the last checkpoint are the ones that show why."""
    store = make_bucket("failing", object_store)
    run = make_uri("failing/run", object_store)
    with pytest.raises(RuntimeError, match="the third step failed"):
        train(config(trained, "run", output=run, log_every=1), [Failing()])
    found = store.get_file_info(fs.FileSelector("failing/run", recursive=True))
    names = {info.path for info in found if info.is_file and "/checkpoints/" not in info.path}
    assert names == {"failing/run/config.json", "failing/run/metrics.jsonl"}
    text = store.open_input_stream("failing/run/metrics.jsonl").read()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["event"], line["step"]) for line in lines] == [
        ("step", 1),
        ("step", 2),
        ("epoch", 2),
        ("step", 3),
    ]


class TakingOver(keras.callbacks.Callback):
    """Stands for another process that believes the lease to be left behind."""

    def __init__(self, run):
        super().__init__()
        self.run = run

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 3:
            folder = open_folder(self.run)
            holder = replace(Holder.of_this_process(""), host="far", token="another")
            folder.write(LOCK, holder.write())


def test_a_run_whose_folder_another_has_taken_over_writes_nothing_more(trained, object_store):
    make_bucket("taken", object_store)
    run = make_uri("taken/run", object_store)
    with (
        pytest.warns(UserWarning, match="RunLockLostError"),
        pytest.raises(CheckpointWriteError, match=r"Another process writes to .* on far since"),
    ):
        train(config(trained, "run", output=run, log_every=1), [TakingOver(run)])
    files = open_folder(run)
    assert list_checkpoints(files) == ["step-00000002"]
    assert b'"step": 3' not in files.read("metrics.jsonl")
    assert files.names() == ["checkpoints", "config.json", "metrics.jsonl"]
    assert Holder.read(files.read(LOCK)).host == "far"


@pytest.mark.parametrize(
    ("values", "rates", "ends_after"),
    [
        ([0.6, 0.7, 0.8, 0.9], [0.1, 0.1, 0.1, 0.1], None),
        ([0.6, 0.6, 0.6], [0.1, 0.02, 0.004], 3),
        ([0.9, 0.8, 0.7], [0.1, 0.02, 0.004], 3),
        ([0.6, 0.5, 0.7, 0.8], [0.1, 0.02, 0.02, 0.02], None),
    ],
)
def test_a_metric_that_grows_is_no_plateau(values, rates, ends_after):
    """The larger roc_auc is the better one, without `monitor_mode`."""
    config = TrainConfig(
        pairs="pairs",
        validation="pairs",
        output="run",
        monitor="val_roc_auc",
        plateau=1,
        early_stopping=2,
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    controls = keras.callbacks.CallbackList(make_controls(config), model=model)
    controls.on_train_begin()
    seen, ended_after = [], None
    for epoch, value in enumerate(values):
        controls.on_epoch_end(epoch, {"val_roc_auc": value})
        seen.append(float(model.optimizer.learning_rate))
        if model.stop_training:
            ended_after = epoch + 1
    assert seen == pytest.approx(rates)
    assert ended_after == ends_after
