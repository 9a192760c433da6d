"""A run goes on with the code that its model was made with."""

import json
import shutil

import numpy as np
import pytest

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.errors import UserError
from tests.distributed.pairs import write_text_pairs
from tests.own_encoder import write_encoder
from tests.runs import make_options, read_last_checkpoint


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """An encoder's file, and a run of one epoch with it."""
    folder = tmp_path_factory.mktemp("started")
    options = make_options(
        write_text_pairs(folder / "pairs", 30),
        folder / "run",
        model=write_encoder(folder),
        model_options={"units": 4},
        epochs=1,
    )
    train(TrainConfig(**options))
    return folder, options


@pytest.fixture
def run(started, tmp_path):
    """Options of a copy of the run that goes on for a second epoch."""
    folder, options = started
    shutil.copytree(folder / "run", tmp_path / "run")
    for name in ("own_encoder.py", "own_layers.py"):
        shutil.copy(folder / name, tmp_path / name)
    return options | {"output": str(tmp_path / "run"), "epochs": 2, "resume": True}


def test_a_run_goes_on_with_the_same_code_wherever_it_lies(run, tmp_path):
    moved = run | {"model": f"{tmp_path / 'own_encoder.py'}:build"}
    assert train(TrainConfig(**moved)).epochs == 2


def test_changed_code_is_refused_and_the_runs_own_can_be_named(run, tmp_path):
    changed = tmp_path / "own_layers.py"
    changed.write_text(changed.read_text() + "# Changed.\n")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with pytest.raises(
        UserError, match=r"the sources .* own_layers: \w{12} in the run, \w{12} now"
    ):
        train(TrainConfig(**run | {"model": f"{tmp_path / 'own_encoder.py'}:build"}))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before
    kept = f"{tmp_path / 'run' / 'source' / 'own_encoder.py'}:build"
    assert train(TrainConfig(**run | {"model": kept})).epochs == 2


def test_other_model_options_are_refused(run):
    with pytest.raises(UserError, match=r"model_options: .*4.* in the run, .*5.* asked for"):
        train(TrainConfig(**run | {"model_options": {"units": 5}}))


def test_a_function_and_a_name_are_not_given_together(run):
    with pytest.raises(UserError, match="The model is given once"):
        train(TrainConfig(**run), build=lambda: None)


def test_a_function_that_stands_in_no_file_is_recorded_by_its_text(started, tmp_path):
    import keras

    def build():
        ids = keras.Input((280,), dtype="int32")
        x = keras.layers.Embedding(257, 3)(ids)
        return keras.Model(ids, keras.layers.GlobalMaxPooling1D()(x))

    _, options = started
    fresh = {**options, "output": str(tmp_path / "run"), "model_options": {}}
    del fresh["model"]
    train(TrainConfig(**fresh), build=build)
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["model"].endswith(
        "test_a_function_that_stands_in_no_file_is_recorded_by_its_text.<locals>.build"
    )
    assert len(stored["source"]["modules"]) > 0


def test_a_schedule_and_a_dropout_go_on_as_if_undisturbed(started, tmp_path):
    """Cut in the middle of the second epoch, on one process: the very same weights."""
    import keras

    def build():
        ids = keras.Input((280,), dtype="int32")
        x = keras.layers.GlobalMaxPooling1D()(keras.layers.Embedding(257, 8)(ids))
        return keras.Model(ids, keras.layers.Dropout(0.5)(x))

    class Cut(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == 4:
                raise InterruptedError

    _, options = started
    common = {
        **options,
        "model_options": {},
        "epochs": 2,
        "schedule": "cosine",
        "warmup_steps": 2,
        "optimizer": "adamw",
        "checkpoint_every": 1,
    }
    del common["model"]
    cut, whole = ({**common, "output": str(tmp_path / name)} for name in ("cut", "whole"))
    train(TrainConfig(**whole), build=build)
    with pytest.raises(InterruptedError):
        train(TrainConfig(**cut), [Cut()], build=build)
    train(TrainConfig(**cut, resume=True), build=build)
    ours, wanted = (read_last_checkpoint(tmp_path / name).tensors for name in ("cut", "whole"))
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)
