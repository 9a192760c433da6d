"""Models of a user's own on real ranks and on Ray: each ends with the weights of one process."""

import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest

import sharedlayers_dist.ray
from sharedlayers_dist import TrainConfig
from sharedlayers_dist.evaluate import evaluate, predict
from tests.distributed import own_models
from tests.distributed.example_pairs import write_png_pairs, write_token_pairs
from tests.distributed.launcher import REPOSITORY, run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.runs import make_options, read_last_checkpoint, read_lines

WORKER = "tests.distributed.workers.several_runs"
KILLED_WORKER = "tests.distributed.workers.killed"
KINDS = [kind.__name__ for kind in own_models.EXACT]
EXAMPLES = {
    "character_cnn": ("texts", {"length": 24, "width": 8}),
    "token_gru": ("tokens", {"length": 20, "units": 6}),
    "image_cnn": ("images", {"channels": 4}),
    "transformer": ("texts", {"length": 24, "width": 8, "steps": 20}),
}
WRITE = {"texts": write_text_pairs, "tokens": write_token_pairs, "images": write_png_pairs}
COMPILED = ("attention", "transformer")
pytestmark = pytest.mark.timeout(960)


def options_of(folder: Path, size: str, name: str) -> dict[str, Any]:
    """Options of the run of a kind or an example; SGD, which turns no rounding into steps."""
    own: dict[str, Any] = {"learning_rate": 0.05, "optimizer": "sgd"}
    own["optimizer_options"] = {"momentum": 0.9}
    if name in COMPILED:  # They bring all of it.
        own = {"learning_rate": None}
    if name in EXAMPLES:
        items, model_options = EXAMPLES[name]
        model = f"{REPOSITORY / 'docs/examples' / name}.py:build"
        own |= {"model": model, "model_options": model_options}
    else:
        items = "texts"
        own["model"] = f"tests.distributed.own_models:{name}"
    return make_options(folder / items, folder / size / name, alphabet_size=40, **own)


def train_on_ranks(folder: Path, size: int, names: list[str]) -> None:
    """Trains on `size` ranks, and keeps what rank zero says."""
    listed = folder / f"{size}.json"
    listed.write_text(json.dumps([options_of(folder, str(size), name) for name in names]))
    ended = run_ranks(WORKER, size, listed, timeout=450)
    (folder / str(size) / "said").write_text(ended[0].output)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Of 50 pairs the last batch has 2, fewer than ranks."""
    folder = tmp_path_factory.mktemp("own")
    for items, write in WRITE.items():
        write(folder / items, 50)
    return folder


@pytest.fixture(scope="module")
def runs(data):
    """All models on 1 and 3 ranks."""
    for size in (1, 3):
        train_on_ranks(data, size, [*KINDS, "plain_norm", *EXAMPLES])
    return data


@pytest.fixture(scope="module")
def two(runs):
    """The examples on two ranks."""
    train_on_ranks(runs, 2, [*EXAMPLES])
    return runs


def distance(runs: Path, size: str, name: str) -> float:
    """The largest difference of a weight from one process's, relative to the largest weight."""
    alone, together = (read_last_checkpoint(runs / of / name) for of in ("1", size))
    assert alone.step == together.step == 10
    return max(
        np.abs(np.subtract(ours, wanted, dtype=np.float64)).max() / np.abs(wanted).max()
        for ours, wanted in zip(together.part("model"), alone.part("model"), strict=True)
        if np.abs(wanted).max() > 0
    )


def assert_alike(runs: Path, size: str, name: str) -> None:
    """A run has the weights and the figures of one process."""
    assert distance(runs, size, name) < 1e-4
    lines = [read_lines(runs / of / name, of_machine=False) for of in (size, "1")]
    for line, wanted in zip(*lines, strict=True):
        assert line.pop("event") == wanted.pop("event")
        assert line == pytest.approx(wanted, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", [*KINDS, *EXAMPLES])
def test_a_model_ends_alike_on_one_rank_and_on_three(runs, name):
    assert_alike(runs, "3", name)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_ends_alike_on_two_ranks(two, name):
    assert_alike(two, "2", name)


def test_statistics_of_each_ranks_own_pairs_make_another_model(runs):
    assert distance(runs, "3", "plain_norm") > 1e-3


def test_what_a_model_was_compiled_with_is_used(runs):
    (line, *_) = read_lines(runs / "1" / "attention")
    assert {"loss", "precision"} <= set(line)
    assert "roc_auc" not in line


def test_frozen_weights_stay(runs):
    last = read_last_checkpoint(runs / "3" / "frozen")
    names = last.state["names"]["model"]
    weights = dict(zip(names, last.part("model"), strict=True))
    (embedding,) = [v for name, v in weights.items() if "embedding" in name]
    assert np.abs(embedding).max() <= 0.05  # As Keras draws it.
    slots = last.state["names"]["optimizer"]
    assert not [name for name in slots if "embedding" in name]


def test_what_cannot_be_exact_is_said_once_with_its_remedy(runs):
    output = (runs / "3" / "said").read_text()
    lines = [line for line in output.splitlines() if "norm: batch normalization" in line]
    assert len(lines) == 1
    assert "SyncBatchNormalization" in lines[0]


def test_the_code_is_kept_with_its_hash(runs):
    config = json.loads((runs / "3" / "char_cnn" / "config.json").read_text())
    kept = runs / "3" / "char_cnn" / "source" / "tests" / "distributed" / "own_models.py"
    assert kept.read_text() == Path(own_models.__file__).read_text()
    assert set(config["source"]["modules"]) == {
        "tests",
        "tests.distributed",
        "tests.distributed.own_models",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_trained_on_ray(runs, ray_cluster, name):
    options = options_of(runs, "ray", name)
    config = TrainConfig(**options, launcher="ray", num_workers=2, cpus_per_worker=1)
    sharedlayers_dist.ray.train(config)
    assert distance(runs, "ray", name) < 1e-4


@pytest.mark.parametrize(
    "name",
    [
        "token_gru",
        *(pytest.param(name, marks=pytest.mark.slow) for name in EXAMPLES if name != "token_gru"),
    ],
)
def test_an_example_that_is_killed_goes_on_bit_by_bit(data, name):
    """In the seventh step, with nothing saved since the sixth, and in the third after that."""
    ends = []
    for of, kills in (("whole", []), ("killed", [(7, 0), (3, 0)])):
        options = options_of(data, of, name) | {"checkpoint_every": 3}
        (ended,) = run_ranks(KILLED_WORKER, 1, json.dumps(options), json.dumps(kills))
        told = [json.loads(line) for line in ended.output.splitlines() if line.startswith("{")]
        assert [one["code"] for one in told] == [-signal.SIGKILL] * len(kills) + [0], ended.output
        ends.append(read_last_checkpoint(data / of / name).tensors)
    for key, tensor in ends[0].items():
        np.testing.assert_array_equal(ends[1][key], tensor, err_msg=key)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_evaluated_predicted_and_opened_in_plain_keras(runs, tmp_path, name):
    run, pairs = runs / "3" / name, str(runs / EXAMPLES[name][0])
    trust = {"trust_code": name == "transformer"}
    figures = evaluate(str(run), pairs, str(tmp_path / "report"), **trust)
    assert 0 <= asdict(figures)["roc_auc"] <= 1
    predict(str(run), pairs, str(tmp_path / "scores.parquet"), **trust)
    scores = pq.read_table(tmp_path / "scores.parquet")["score"].to_numpy()
    assert scores.shape == (50,)
    assert ((scores >= 0) & (scores <= 1)).all()
    if name != "transformer":  # Its own layer is looked at in tests/unit/evaluate.
        model = keras.models.load_model(run / "model.keras")
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        inputs = {side: np.zeros((2, *shapes[0][1:])) for side in "ab"}
        assert model.predict(inputs, verbose=0).shape == (2, 1)
