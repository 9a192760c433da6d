"""Runs on Ray: the same result as under the other launchers, through kills, stops and mistakes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
import ray
from pyarrow import fs

import sharedlayers_dist.ray
from sharedlayers_dist import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.failures import RayRunError
from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.training.checkpoints.files import list_checkpoints
from sharedlayers_dist.training.stored_config import storable
from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.distributed.ray.undisturbed import make_options
from tests.object_store import make_bucket, make_uri
from tests.own_callbacks import read_notes, write_callbacks
from tests.own_encoder import write_encoder
from tests.runs import assert_same_tensors, read_lines

LOCAL_WORKER = "tests.distributed.workers.training"
COMMAND = Path(sys.executable).parent / "sharedlayers"
STEPS_PER_EPOCH = 5


def make_config(folder: Path, name: str, **options) -> TrainConfig:
    own = {
        "validation": str(folder / "validation"),
        "log_every": 2,
        "keep_checkpoints": 9,
        "launcher": "ray",
        "num_workers": 2,
        "cpus_per_worker": 1,
    }
    return TrainConfig(**make_options(folder, name) | own | options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs, and what one process and two ranks under Horovod's own launcher learn from them."""
    folder = tmp_path_factory.mktemp("ray")
    write_text_pairs(folder / "train", 50)
    write_text_pairs(folder / "validation", 20, seed=1)
    for name, num_ranks in [("one", 1), ("horovod", 2)]:
        train_locally(make_config(folder, name), num_ranks)
    return folder


def train_locally(config: TrainConfig, num_ranks: int = 1) -> None:
    options = storable(replace(config, launcher="auto", num_workers=1))
    options = {k: v for k, v in options.items() if v != []}  # JSON has no tuples.
    run_ranks(LOCAL_WORKER, num_ranks, json.dumps(options))


@pytest.fixture(scope="module")
def trained(folder, ray_cluster):
    """A run on two workers, read by three actors, as Ray sees it."""
    return sharedlayers_dist.ray.train_for_result(make_config(folder, "ray", num_shard_actors=3))


@pytest.mark.parametrize("part", ["model", "optimizer", "metrics"])
@pytest.mark.parametrize("other", ["one", "horovod"])
def test_the_three_launchers_give_the_same_weights(trained, folder, other, part):
    assert_same_tensors(folder / "ray", folder / other, part)


def test_figures_and_checkpoints_reach_ray(trained, folder):
    last = [line for line in read_lines(folder / "ray") if line["event"] == "epoch"][-1]
    assert trained.metrics["epoch"] == 2
    assert trained.metrics["val_loss"] == pytest.approx(last["val_loss"])
    newest = list_checkpoints(LocalFolder(folder / "ray"))[-1]
    assert trained.checkpoint.path == str(folder / "ray" / "checkpoints" / newest)
    assert trained.return_value.steps == 2 * STEPS_PER_EPOCH
    assert [metrics["epoch"] for _, metrics in trained.best_checkpoints] == [1, 2]


def test_the_model_opens_in_plain_keras(trained):
    model = keras.models.load_model(trained.return_value.model)
    assert [tensor.shape for tensor in model.inputs] == [(None, 280, 256)] * 2


def test_workers_train_a_model_whose_files_they_do_not_have(folder, ray_cluster, tmp_path):
    config = make_config(folder, "sent", model=write_encoder(tmp_path))
    train_locally(replace(config, output=str(folder / "kept")))

    def remove_files() -> list[keras.callbacks.Callback]:
        """Before the worker builds its model."""
        for file in tmp_path.glob("*.py"):
            file.unlink(missing_ok=True)
        return []

    sharedlayers_dist.ray.train(config, remove_files)
    assert not list(tmp_path.glob("*.py"))
    assert_same_tensors(folder / "sent", folder / "kept")
    assert (folder / "sent" / "source" / "own_layers.py").is_file()


class HoldsNoItems(keras.callbacks.Callback):
    """Fails at the end of training on a rank that has mapped items; rank zero reads the texts."""

    def on_train_end(self, logs=None):
        from sharedlayers_dist import dist

        with open("/proc/self/maps") as lines:
            mapped = [line for line in lines if "(deleted)" in line and "/tmp/#" in line]
        if dist.rank() and mapped:
            raise RuntimeError(f"Rank {dist.rank()} holds items: {mapped}")


@pytest.mark.slow
def test_items_of_groups_come_from_shard_actors(folder, ray_cluster, tmp_path):
    items = {"item_column": "a", "group_column": "label"}
    options = {"groups_per_batch": 2, "items_per_group": 4, "num_shard_actors": 3}
    options |= {"hard_negatives": 1, "epochs": 2}  # All items, between both epochs.
    config = make_config(folder, "groups", model=write_encoder(tmp_path), **items, **options)
    train_locally(replace(config, output=str(folder / "held")), 2)
    sharedlayers_dist.ray.train(config, lambda: [HoldsNoItems()])
    assert_same_tensors(folder / "groups", folder / "held")


@pytest.mark.slow
def test_workers_train_a_function_that_stands_in_no_module(folder, ray_cluster):
    units = 3

    def build(rate):
        ids = keras.Input((280,), dtype="int32")
        x = keras.layers.GlobalMaxPooling1D()(keras.layers.Embedding(257, units)(ids))
        model = sharedlayers_dist.models.pair_classifier(keras.Model(ids, x), "cosine")
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
        return model

    own = {"learning_rate": None, "model_options": {"rate": 0.01}, "checkpoint_every": 0}
    config = make_config(folder, "closure", head="auto", **own)
    result = sharedlayers_dist.ray.train(config, build=build)
    assert set(result.metrics) == {"loss", "accuracy", "val_loss", "val_accuracy"}


class KilledOnce(keras.callbacks.Callback):
    """Kills the worker of rank 1 after a step, unless it was started again."""

    def __init__(self, step: int, times: int = 1) -> None:
        super().__init__()
        self._step = step
        self._times = times

    def on_train_batch_end(self, batch, logs=None):
        from sharedlayers_dist import dist

        is_mine = dist.rank() == dist.size() - 1
        if is_mine and sharedlayers_dist.ray.num_restarts() < self._times:
            self._step -= 1
            if self._step == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(folder, ray_cluster, capfd):
    config = make_config(folder, "killed", max_failures=1)
    result = sharedlayers_dist.ray.train(config, lambda: [KilledOnce(7)])
    assert result.steps == 2 * STEPS_PER_EPOCH
    for part in ("model", "optimizer", "metrics"):
        assert_same_tensors(folder / "killed", folder / "one", part)
    assert [line["step"] for line in read_lines(folder / "killed")] == [2, 4, 5, 6, 8, 10, 10]
    shown = capfd.readouterr().err
    assert "started again on 2 worker(s), since rank 1 on the node" in shown
    assert shown.count("epoch 1/2:") == 1


@pytest.mark.slow
def test_a_run_that_fails_too_often_names_rank_and_node(folder, ray_cluster):
    config = make_config(folder, "hopeless", max_failures=0)
    began = time.monotonic()
    with pytest.raises(RayRunError, match=r"rank 1 on the node \d+\.\d+\.\d+\.\d+ was lost"):
        sharedlayers_dist.ray.train(config, lambda: [KilledOnce(3)])
    assert time.monotonic() - began < 120
    assert list_checkpoints(LocalFolder(folder / "hopeless")) == ["step-00000002"]
    result = sharedlayers_dist.ray.train(replace(config, resume=True, num_workers=1))
    assert result.steps == 2 * STEPS_PER_EPOCH
    assert_same_tensors(folder / "hopeless", folder / "one", "model")


class FailsOnce(keras.callbacks.Callback):
    """Raises NumPy's ValueError at first; once started again, kills the control actor."""

    def on_train_batch_end(self, batch, logs=None):
        from sharedlayers_dist import dist

        if dist.rank() == 0 and batch == 2:
            if sharedlayers_dist.ray.num_restarts() == 0:
                np.zeros(2) + np.zeros(3)
            kill_control()


def kill_control() -> None:
    """Kills the process of the one control actor there is."""
    (control,) = (p for p in psutil.process_iter(["name"]) if p.info["name"] == "ray::_Control")
    control.kill()


@pytest.mark.slow
def test_an_error_of_a_callback_is_shown_whole_and_tried_again(folder, ray_cluster, capfd):
    config = make_config(folder, "raised", max_failures=1, epochs=1)
    result = sharedlayers_dist.ray.train(config, lambda: [FailsOnce()])
    assert result.steps == STEPS_PER_EPOCH
    shown = capfd.readouterr().err
    assert "since rank 0 on the node" in shown
    assert "ValueError: operands could not be broadcast together" in shown
    assert "in on_train_batch_end\n    np.zeros(2) + np.zeros(3)" in shown


def test_a_users_mistake_is_told_once_and_not_tried_again(folder, ray_cluster, capfd):
    config = make_config(folder, "mistake", max_failures=5, pairs=str(folder / "nowhere"))
    with pytest.raises(ValueError, match=r"There is no such dataset: .*nowhere"):
        sharedlayers_dist.ray.train(config)
    assert "started again" not in capfd.readouterr().err
    config = make_config(folder, "ray")
    with pytest.raises(ValueError, match="holds another run, which is not overwritten"):
        sharedlayers_dist.ray.train(config)


@pytest.mark.slow
def test_a_bad_row_of_one_rank_ends_all_without_another_try(folder, tmp_path, ray_cluster, capfd):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(write_text_pairs(tmp_path / "bad", 50) / "one.parquet").to_pydict()
    table["label"][17] = 7
    pq.write_table(pa.table(table), tmp_path / "bad" / "one.parquet", row_group_size=7)
    config = make_config(folder, "bad", pairs=str(tmp_path / "bad"), max_failures=5)
    with pytest.raises(ValueError, match=r"one.parquet, row group 2, row 3: its label is 7"):
        sharedlayers_dist.ray.train(config)
    assert "started again" not in capfd.readouterr().err


def test_a_run_that_cannot_be_placed_says_what_is_missing(folder, ray_cluster, capfd):
    config = make_config(folder, "crowd", num_workers=99, use_gpu=True, placement_seconds=6)
    with pytest.raises(RayRunError, match=r"within 6 seconds.*99 CPU.*99 GPU.*0 there on 1 node"):
        sharedlayers_dist.ray.train(config)
    assert "waiting for room: 99 CPU" in capfd.readouterr().err
    assert not (folder / "crowd").exists()


@pytest.mark.slow
def test_the_config_of_a_run_elsewhere_is_run_again_on_ray(folder, ray_cluster):
    write_callbacks(folder)
    own = ["--output", "again", "--launcher=ray", "--num-workers=2"]
    own += ["--callbacks", "own_callbacks.py:make"]
    ended = subprocess.run(
        [COMMAND, "train", "--config", "one/config.json", *own],
        cwd=folder,  # From there the paths count, as on the command line.
        env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert_same_tensors(folder / "again", folder / "one")
    for rank in range(2):  # The workers run in another folder, and do not have the file there.
        assert read_notes(folder, rank) == ["begin", "epoch 1", "epoch 2", "end"]


@contextmanager
def driver_under_way(config: TrainConfig, *, address: str = "", cwd: Path | None = None):
    """A driver in a process of its own, once its run is some steps on its way."""
    options = [
        f"--{name.replace('_', '-')}={getattr(config, name)}"
        for name in (
            *("pairs", "output", "epochs", "batch_size", "learning_rate", "head"),
            *("checkpoint_every", "launcher", "num_workers"),
        )
    ]
    driver = subprocess.Popen(
        [COMMAND, "train", *options, "--log-every=1"],
        cwd=cwd,
        env=os.environ | {"RAY_ADDRESS": address or ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = Path(config.output) / "metrics.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") > 2):
            assert time.monotonic() < deadline
            assert driver.poll() is None, driver.communicate()
            time.sleep(0.2)
        yield driver
    finally:
        driver.kill()
        driver.communicate()


def copy_package(folder: Path) -> Path:
    """Leaves a copy of the package in `folder`, which notes each import of it in the file given."""
    copy, imports = folder / "sharedlayers_dist", folder / "imports"
    shutil.copytree(Path(sharedlayers_dist.__file__).parent, copy)
    with (copy / "__init__.py").open("a") as file:
        file.write(f"\nopen({str(imports)!r}, 'a').write('imported')\n")
    return imports


@pytest.mark.slow
def test_a_run_beside_a_copy_of_the_package_is_stopped_after_its_control_actor_died(
    folder, tmp_path, ray_cluster
):
    imports = copy_package(tmp_path)
    config = make_config(folder, "stopped", epochs=400)
    with driver_under_way(config, cwd=tmp_path) as driver:
        with pytest.raises(UserError, match="One run at a time writes to a run folder"):
            sharedlayers_dist.ray.train(replace(config, resume=True))
        kill_control()
        driver.send_signal(signal.SIGTERM)
        notes, shown = driver.communicate(timeout=60)
    assert driver.returncode == 75, shown
    assert notes == ""  # Ray's own, on the process that was killed.
    assert "It has saved itself after step" in shown.splitlines()[-1]
    assert list_checkpoints(LocalFolder(folder / "stopped"))
    assert not imports.exists()


DRIVER_WITH_A_CONNECTION = """
import sys

import ray

import sharedlayers_dist as sd
from sharedlayers_dist.errors import UserError

ray.init(log_to_driver=False, logging_level="ERROR")
try:
    sd.ray.train(sd.TrainConfig(pairs="pairs", output="run", launcher="ray"))
except UserError as error:
    sys.exit(str(error))
"""


def test_workers_that_import_another_copy_are_refused(tmp_path, ray_cluster):
    (tmp_path / "script").mkdir()
    script = tmp_path / "script" / "driver.py"
    script.write_text(DRIVER_WITH_A_CONNECTION)
    copy_package(tmp_path)
    ended = subprocess.run(  # Ray puts the current folder first where its user connects by himself.
        [sys.executable, script],
        cwd=tmp_path,
        env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    own = Path(sharedlayers_dist.__file__).parent
    assert f"Received: {own} in the driver, and {tmp_path}/sharedlayers_dist" in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_cluster_of_this_machine_alone_listens_on_the_loopback_interface(folder):
    config = make_config(folder, "alone", epochs=400)
    with driver_under_way(config, address="local") as driver:
        family = [psutil.Process(driver.pid)]
        family += family[0].children(recursive=True)
        listening = {
            (process.name(), socket.laddr.ip)
            for process in family
            for socket in process.net_connections("inet")
            if socket.status == psutil.CONN_LISTEN
        }
        driver.send_signal(signal.SIGTERM)
        driver.wait(timeout=60)
    assert {"raylet", "gcs_server", "ray::RayTrainWorker"} <= {name for name, _ in listening}
    assert {address for _, address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def workers_of_ray() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["name"]) if p.info["name"].startswith("ray::RayTrain")]


@pytest.mark.slow
def test_a_driver_that_is_killed_takes_its_workers_along_and_can_go_on(folder, ray_cluster):
    config = make_config(folder, "orphan", epochs=400, checkpoint_every=1, validation="")
    with driver_under_way(config) as driver:
        assert len(workers_of_ray()) == 2
        driver.kill()
        deadline = time.monotonic() + 60
        while workers_of_ray():
            assert time.monotonic() < deadline
            time.sleep(0.5)
    *_, newest = list_checkpoints(LocalFolder(folder / "orphan"))
    epochs = 2 + int(newest.removeprefix("step-")) // STEPS_PER_EPOCH
    result = sharedlayers_dist.ray.train(replace(config, epochs=epochs, resume=True))
    assert result.steps == epochs * STEPS_PER_EPOCH
    lines = [line["step"] for line in read_lines(folder / "orphan") if line["event"] == "epoch"]
    assert lines == [STEPS_PER_EPOCH * epoch for epoch in range(1, epochs + 1)]


@pytest.mark.slow
def test_a_run_in_an_object_store_is_that_of_a_disk(folder, ray_cluster, object_store):
    make_bucket("ray", object_store)
    uri = make_uri("ray/runs/one", object_store)
    with pytest.raises(ValueError, match="There is no such dataset"):
        sharedlayers_dist.ray.train(
            make_config(folder, "unused", output=uri, pairs=str(folder / "nowhere"))
        )
    result = sharedlayers_dist.ray.train_for_result(make_config(folder, "unused", output=uri))
    run = open_folder(uri)
    newest = list_checkpoints(run)[-1]
    assert result.checkpoint.path == f"ray/runs/one/checkpoints/{newest}"
    path, store = run.locate()
    fs.copy_files(path, str(folder / "copied"), source_filesystem=store)
    for part in ("model", "optimizer", "metrics"):
        assert_same_tensors(folder / "copied", folder / "one", part)
    assert b"secret" not in run.read("config.json")


def test_a_job_of_ray_is_not_left_in_a_folder_that_is_removed(folder, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ValueError, match=r"absolute path or a URI .*output='runs/one'"):
        sharedlayers_dist.ray.train(make_config(folder, "one", output="runs/one"))
