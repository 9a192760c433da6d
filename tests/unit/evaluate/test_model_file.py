"""A run's model with code of a user's own is opened when told to, and never by itself."""

import json
import shutil
import sys
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate import TrainedRun, evaluate, predict
from tests.distributed.pairs import write_text_pairs
from tests.own_encoder import write_encoder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with an encoder's file, pairs, and a run that was trained with both."""
    folder = tmp_path_factory.mktemp("own")
    pairs = write_text_pairs(folder / "pairs", 30)
    options: dict[str, Any] = {"model": write_encoder(folder), "epochs": 1, "batch_size": 10}
    train(TrainConfig(pairs=str(pairs), output=str(folder / "run"), **options))
    (folder / "executed").unlink()
    return folder


@pytest.fixture
def run(own, tmp_path):
    """A copy of the run that a test may damage, and no module of it in this process."""
    for name in ("own_encoder", "own_layers"):
        sys.modules.pop(name, None)
    return shutil.copytree(own / "run", tmp_path / "run")


def test_nothing_of_a_run_is_executed_unless_told_to(own, run, tmp_path):
    for use in (
        lambda: evaluate(str(run), str(own / "pairs"), str(tmp_path / "report")),
        lambda: predict(str(run), str(own / "pairs"), str(tmp_path / "scores.parquet")),
    ):
        with pytest.raises(
            UserError, match=r"the code of own_encoder:build \(class 'Scale'\)"
        ) as e:
            use()
        assert "--trust-code" in str(e.value)
        assert f"{run}/source" in str(e.value)
    assert not (own / "executed").exists()
    assert not (tmp_path / "report").exists()


def test_the_kept_sources_and_ones_own_give_the_same_scores(own, run, tmp_path):
    outputs = []
    for name, options in (
        ("kept", {"trust_code": True}),
        ("own", {"model": f"{own / 'own_encoder.py'}:build"}),
    ):
        output = tmp_path / f"{name}.parquet"
        predict(str(run), str(own / "pairs"), str(output), **options)
        outputs.append(pq.read_table(output)["score"].to_numpy())
    np.testing.assert_array_equal(*outputs)
    assert (own / "executed").exists()
    figures = evaluate(str(run), str(own / "pairs"), str(tmp_path / "report"), trust_code=True)
    assert asdict(figures)["loss"] > 0


def test_a_run_keeps_what_its_model_needs(run):
    assert sorted(path.name for path in (run / "source").iterdir()) == [
        "own_encoder.py",
        "own_layers.py",
    ]
    facts = json.loads((run / "config.json").read_text())["source"]
    assert facts["entry"] == "own_encoder:build"
    assert set(facts["modules"]) == {"own_encoder", "own_layers"}


@pytest.mark.parametrize("change", ["changed", "missing"])
def test_sources_that_are_not_the_runs_are_not_executed(own, run, change):
    (own / "executed").unlink(missing_ok=True)
    kept = run / "source" / "own_layers.py"
    if change == "missing":
        kept.unlink()
    else:
        kept.write_text(kept.read_text() + "# Changed.\n")
    with pytest.raises(UserError, match="own_layers"):
        TrainedRun.load(str(run), trust_code=True)
    assert not (own / "executed").exists()


def test_a_model_file_is_keras_own(own, run):
    """It opens without this package, given the layer that Keras has not."""
    module: dict[str, type] = {}
    exec((run / "source" / "own_layers.py").read_text(), module)
    model = keras.models.load_model(run / "model.keras", custom_objects={"Scale": module["Scale"]})
    assert model.output_shape == (None, 1)
    ids = np.zeros((2, 280), np.int32)
    assert model.predict({"a": ids, "b": ids}, verbose=0).shape == (2, 1)


def test_a_plain_model_of_ones_own_needs_no_trust(tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 20)
    (tmp_path / "own_plain.py").write_text(
        "import keras\n"
        "def build():\n"
        "    ids = keras.Input((280,), dtype='int32')\n"
        "    x = keras.layers.Embedding(257, 3)(ids)\n"
        "    return keras.Model(ids, keras.layers.GlobalMaxPooling1D()(x))\n"
    )
    options: dict[str, Any] = {
        "model": f"{tmp_path / 'own_plain.py'}:build",
        "epochs": 1,
        "batch_size": 10,
    }
    train(TrainConfig(pairs=str(pairs), output=str(tmp_path / "run"), **options))
    assert TrainedRun.load(str(tmp_path / "run")).model.output_shape == (None, 1)
