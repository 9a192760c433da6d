"""What a resumed run takes up, and what another run takes from it: real trainings, in this process.

That a run goes on as if nothing had happened is in tests/distributed/test_kills.py.
"""

import json
import os
import shutil
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from pyarrow import fs

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.storage.holder import Holder
from sharedlayers_dist.storage.run_lock import LOCK, lock_run
from sharedlayers_dist.training.checkpoints.files import list_checkpoints, read_checkpoint
from sharedlayers_dist.training.checkpoints.manager import CheckpointWriteError
from tests.distributed.pairs import write_text_pairs
from tests.object_store import make_bucket, make_uri
from tests.runs import make_options, read_last_checkpoint, read_lines


class Witness(keras.callbacks.Callback):
    """Sees what the training starts from, and counts its steps."""

    def __init__(self):
        super().__init__()
        self.weights = None
        self.iterations = None
        self.num_steps = 0

    def on_train_begin(self, logs=None):
        self.weights = [w.tobytes() for w in self.model.get_weights()]
        self.iterations = int(self.model.optimizer.iterations)
        self.momenta = [np.array(v.value) for v in self.model.optimizer.variables[2:]]

    def on_train_batch_end(self, batch, logs=None):
        self.num_steps += 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of 2 epochs of 2 steps, and its dataset."""
    folder = tmp_path_factory.mktemp("resuming")
    write_text_pairs(folder / "pairs", 20)
    train(config(folder, "run"))
    return folder


def config(folder, run, **changes):
    own = {"keep_best": 2}
    return TrainConfig(**make_options(folder / "pairs", folder / run, **own | changes))


@pytest.fixture
def run(folder):
    """A copy of the finished run, under a name of its own."""
    shutil.rmtree(folder / "copy", ignore_errors=True)
    shutil.copytree(folder / "run", folder / "copy")
    return folder / "copy"


def weights_of(checkpoint):
    """Without the state of random numbers, as `get_weights` has them."""
    named = zip(checkpoint.state["names"]["model"], checkpoint.part("model"), strict=True)
    return [array.tobytes() for name, array in named if not name.startswith("seed_generator")]


def read_files(run):
    return {
        path.relative_to(run): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.suffix != ".keras"  # They hold the time of their writing.
    }


def test_a_finished_run_resumed_does_nothing(folder, run):
    before, witness = read_files(run), Witness()
    result = train(config(folder, "copy", resume=True), [witness])
    assert witness.num_steps == 0
    assert read_files(run) == before
    assert (result.steps, result.epochs) == (4, 2)
    *_, line = read_lines(run)
    assert result.metrics["loss"] == line["loss"]
    assert result.metrics.keys() == {"loss", "accuracy", "roc_auc"}


def test_a_finished_run_goes_on_with_more_epochs(folder, run):
    witness = Witness()
    result = train(config(folder, "copy", resume=True, epochs=3), [witness])
    assert (result.steps, result.epochs, witness.num_steps) == (6, 3, 2)
    shutil.rmtree(folder / "longer", ignore_errors=True)
    train(config(folder, "longer", epochs=3))
    actual, expected = read_last_checkpoint(run), read_last_checkpoint(folder / "longer")
    for name, tensor in expected.tensors.items():
        assert actual.tensors[name].tobytes() == tensor.tobytes(), name


def test_another_configuration_is_refused_with_what_differs(folder, run):
    before = read_files(run)
    with pytest.raises(ValueError, match="resumed with the configuration") as refused:
        train(config(folder, "copy", resume=True, epochs=3, seed=4, head="cosine"))
    assert "seed: 0 in the run, 4 asked for" in str(refused.value)
    assert "head: 'concatenation' in the run, 'cosine' asked for" in str(refused.value)
    assert "epochs" not in str(refused.value)
    assert read_files(run) == before


def damage(run):
    for number, path in enumerate(sorted((run / "checkpoints").iterdir())):
        if number % 2:
            (path / "tensors.safetensors").write_bytes(b"")
        else:
            (path / "manifest.json").unlink()


def test_a_run_none_of_whose_checkpoints_can_be_read_is_refused_and_left_alone(folder, run):
    damage(run)
    before = read_files(run)
    with pytest.raises(UserError, match="from a checkpoint that can be read") as refused:
        train(config(folder, "copy", resume=True, epochs=3))
    assert f"{run}/checkpoints/step-00000002 was not finished" in str(refused.value)
    assert "step-00000004/tensors.safetensors has 0 of" in str(refused.value)
    assert read_files(run) == before
    changes = {"initialize_from": str(run), "epochs": 1}
    with pytest.raises(UserError, match="from a checkpoint that can be read"):
        train(config(folder, "never", **changes))
    assert not (folder / "never").exists()


def test_a_run_whose_checkpoints_are_gone_is_refused_and_left_alone(folder, run):
    shutil.rmtree(run / "checkpoints")
    (run / "best.keras").unlink()
    before = read_files(run)
    for _ in range(2):
        with pytest.raises(UserError, match="longer than an epoch and holds none"):
            train(config(folder, "copy", resume=True, epochs=3))
        (run / "model.keras").unlink(missing_ok=True)  # Its metrics still tell.
    assert read_files(run) == before


def test_a_read_error_ends_a_resume_and_leaves_the_run_alone(folder, run):
    file = run / "checkpoints" / "step-00000004" / "tensors.safetensors"
    file.unlink()
    file.symlink_to("/proc/self/mem")  # Reading it gives EIO, as of a server that is away.
    names = sorted(run.rglob("*"))
    metrics = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(OSError, match="Input/output error"):
        train(config(folder, "copy", resume=True, epochs=3))
    assert sorted(run.rglob("*")) == names
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_from_the_start(folder, run):
    shutil.rmtree(run / "checkpoints")
    for name in ("model.keras", "best.keras"):
        (run / name).unlink()
    first = (run / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
    (run / "metrics.jsonl").write_text(first)
    with pytest.warns(UserWarning, match="had written no checkpoint: it begins from the start"):
        result = train(config(folder, "copy", resume=True))
    assert result.steps == 4
    actual, expected = read_last_checkpoint(run), read_last_checkpoint(folder / "run")
    for name, tensor in expected.tensors.items():
        assert actual.tensors[name].tobytes() == tensor.tobytes(), name


def test_a_run_that_another_process_writes_to_is_refused_and_left_alone(folder, run):
    before = read_files(run)
    lock = lock_run(LocalFolder(run))
    held = read_files(run)
    try:
        for resume in (False, True):
            with pytest.raises(UserError, match=f"process {os.getpid()} on .* writes to"):
                train(config(folder, "copy", resume=resume, epochs=3))
        assert read_files(run) == held
    finally:
        lock.release()
    assert read_files(run) == before


class Failing(keras.callbacks.Callback):
    """Fails in the third step, which is the first of an epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 3:
            raise RuntimeError("the third step failed")


def test_a_run_that_fails_leaves_all_its_lines_on_an_object_store(folder, object_store):
    """Those since the last checkpoint are the ones that show why."""
    store = make_bucket("failing", object_store)
    run = make_uri("failing/run", object_store)
    with pytest.raises(RuntimeError, match="the third step failed"):
        train(config(folder, "run", output=run, log_every=1), [Failing()])
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


def test_a_run_whose_folder_another_has_taken_over_writes_nothing_more(folder, object_store):
    make_bucket("taken", object_store)
    run = make_uri("taken/run", object_store)
    with (
        pytest.warns(UserWarning, match="RunLockLostError"),
        pytest.raises(CheckpointWriteError, match=r"Another process writes to .* on far since"),
    ):
        train(config(folder, "run", output=run, log_every=1), [TakingOver(run)])
    files = open_folder(run)
    assert list_checkpoints(files) == ["step-00000002"]
    assert b'"step": 3' not in files.read("metrics.jsonl")
    assert files.names() == ["checkpoints", "config.json", "metrics.jsonl"]
    assert Holder.read(files.read(LOCK)).host == "far"


def test_initializing_from_a_run_takes_its_weights_alone(folder):
    shutil.rmtree(folder / "other", ignore_errors=True)
    witness = Witness()
    changes = {"initialize_from": str(folder / "run"), "epochs": 1, "seed": 3}
    result = train(config(folder, "other", **changes), [witness])
    assert (result.steps, result.epochs) == (2, 1)
    assert witness.weights == weights_of(read_last_checkpoint(folder / "run"))
    assert witness.iterations == 0
    assert not any(value.any() for value in witness.momenta)
    (line,) = (folder / "other" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 2


def test_a_damaged_best_checkpoint_leaves_the_next_best_model(folder, run):
    losses = {
        step: read_checkpoint(LocalFolder(run), f"step-{step:08d}").state["metrics"]["loss"]
        for step in (2, 4)
    }
    best, second = sorted(losses, key=losses.get)
    (run / "checkpoints" / f"step-{best:08d}" / "state.json").write_text("{}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(config(folder, "copy", resume=True, epochs=1))
    texts = [str(warning.message) for warning in caught]
    assert any(f"best checkpoint was passed over: {run}" in text for text in texts), texts
    expected = weights_of(read_checkpoint(LocalFolder(run), f"step-{second:08d}"))
    actual = keras.models.load_model(run / "best.keras").get_weights()
    assert [w.tobytes() for w in actual] == expected


def test_a_metric_that_grows_is_best_where_it_is_largest(folder):
    changes = {"validation": str(folder / "pairs"), "monitor": "val_roc_auc", "epochs": 4}
    changes |= {"early_stopping": 1, "keep_checkpoints": 1, "keep_best": 1}
    result = train(config(folder, "grows", **changes))
    lines = read_lines(folder / "grows")
    values = [line["val_roc_auc"] for line in lines if line["event"] == "epoch"]
    assert values[0] != values[1]  # Else this says nothing.
    ends = [n for n in range(1, len(values)) if values[n] <= max(values[:n])]
    assert result.epochs == len(values) == (ends[0] + 1 if ends else 4)
    best, last = (values.index(max(values)) + 1) * 2, len(values) * 2
    kept = list_checkpoints(LocalFolder(folder / "grows"))
    assert kept == [f"step-{step:08d}" for step in sorted({best, last})]
    weights = keras.models.load_model(folder / "grows" / "best.keras").get_weights()
    expected = read_checkpoint(LocalFolder(folder / "grows"), f"step-{best:08d}")
    assert [w.tobytes() for w in weights] == weights_of(expected)
