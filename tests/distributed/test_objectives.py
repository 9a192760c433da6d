"""Runs with every kind of loss: groups of items or pairs, the same on any number of ranks."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist import evaluate, train
from tests.distributed.launcher import run_ranks
from tests.distributed.workers.objectives import RUNS, make_config, make_encoder
from tests.runs import MACHINE_FIGURES, assert_same_tensors, read_last_checkpoint, read_lines

WORKER = "tests.distributed.workers.objectives"
ALWAYS = ["all_pairs", "in_batch_negatives", "hard_negatives"]
pytestmark = pytest.mark.timeout(600)


def write_pairs(path: Path, first_group: int) -> None:
    """60 pairs of the items of 7 groups; those of a group have letters in common."""
    rng = np.random.default_rng(first_group)

    def item(group: int) -> str:
        letters = [chr(97 + (group * 3 + int(rng.integers(0, 4))) % 26) for _ in range(9)]
        return "".join(letters)

    items = [(group, item(group)) for group in range(first_group, first_group + 7) for _ in "12345"]
    rows = []
    for number in range(60):
        group, a = items[rng.integers(len(items))]
        alike = [x for x in items if (x[0] == group) == (number % 2 == 0) and x[1] != a]
        other, b = alike[rng.integers(len(alike))]
        rows.append({"a": a, "b": b, "label": int(group == other), "group_a": group})
        rows[-1]["group_b"] = other
    path.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path / "1.parquet", row_group_size=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("objectives")
    write_pairs(folder / "train", 0)
    write_pairs(folder / "validation", 7)
    return folder


@pytest.fixture(scope="module")
def runs(folder) -> Path:
    for num_ranks in (1, 2):
        run_ranks(WORKER, num_ranks, folder, *ALWAYS, timeout=300)
    return folder


@pytest.fixture(scope="module")
def all_runs(runs) -> Path:
    rest = [name for name in RUNS if name not in ALWAYS]
    for num_ranks, names in ((1, rest), (2, rest), (3, list(RUNS))):
        run_ranks(WORKER, num_ranks, runs, *names, timeout=500)
    return runs


def assert_equal_runs(folder: Path, run: str, expected: str) -> None:
    assert_same_tensors(folder / run, folder / expected, "model")
    assert_same_tensors(folder / run, folder / expected, "objective")
    found, wanted = read_lines(folder / run), read_lines(folder / expected)
    assert {"loss", "val_loss", "val_accuracy", "val_roc_auc"} <= set(wanted[-1])
    assert {"val_recall_at_10", "val_mrr", "val_map_at_r", "val_map_at_r_low"} <= set(wanted[-1])
    for line, wanted_line in zip(found, wanted, strict=True):
        assert line.keys() == wanted_line.keys()
        for name in wanted_line.keys() - MACHINE_FIGURES - {"event"}:
            assert line[name] == pytest.approx(wanted_line[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("name", ALWAYS)
def test_two_ranks_learn_what_one_process_learns(runs, name):
    assert_equal_runs(runs, f"{name}.2", f"{name}.1")


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_learn_what_one_process_learns(all_runs, name, num_ranks):
    assert_equal_runs(all_runs, f"{name}.{num_ranks}", f"{name}.1")


@pytest.mark.slow
def test_mini_batches_change_nothing(all_runs):
    assert_equal_runs(all_runs, "all_pairs_in_parts.1", "all_pairs.1")


@pytest.mark.parametrize("name", ALWAYS)
def test_a_run_that_was_stopped_goes_on_bit_by_bit(runs, name):
    """In the middle of an epoch, after a fitted head, a learned temperature, mined negatives."""

    class Stop(keras.callbacks.Callback):
        def __init__(self, step: int) -> None:
            super().__init__()
            self._left = step

        def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
            time.sleep(0.3)  # While a checkpoint is written, the next one is put off.
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1

    # Not that of the fixture, where sums are rounded in another order.
    keras.backend.clear_session()
    steps = train(make_config(runs, name, f"{name}.undisturbed"), build=make_encoder).steps
    config = make_config(runs, name, f"{name}.resumed", checkpoint_every=1)
    keras.backend.clear_session()
    with pytest.raises(KeyboardInterrupt):
        train(config, [Stop(steps - 1)], build=make_encoder)
    position = read_last_checkpoint(config.output).state["position"]
    assert position == {"epoch": 1, "step_of_epoch": steps // 2 - 1, "step": steps - 1}
    keras.backend.clear_session()
    result = train(replace(config, resume=True), build=make_encoder)
    assert result.steps == steps
    found = read_last_checkpoint(runs / f"{name}.resumed").tensors
    wanted = read_last_checkpoint(runs / f"{name}.undisturbed").tensors
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        np.testing.assert_array_equal(found[key], tensor, err_msg=key)
    resumed, undisturbed = (
        [line for line in read_lines(runs / f"{name}.{run}") if line["event"] == "epoch"][-1]
        for run in ("resumed", "undisturbed")
    )
    assert resumed.keys() == undisturbed.keys()
    for key in undisturbed.keys() - MACHINE_FIGURES:
        assert resumed[key] == undisturbed[key], key


def test_any_number_of_ranks_finds_the_same_negatives(folder):
    """Bit by bit, with the same weights; and plans the same batches."""
    for num_ranks in (1, 2, 3):
        run_ranks("tests.distributed.workers.mining", num_ranks, folder, timeout=150)
        expected = np.load(folder / "mined-0-of-1.npz")
        assert expected["share"] > 0
        for rank in range(num_ranks):
            found = np.load(folder / f"mined-{rank}-of-{num_ranks}.npz")
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value, err_msg=f"{name}, {rank}")


def test_scores_are_probabilities_of_the_validation_pairs(runs, tmp_path):
    """As `evaluate` finds them in the model that the run leaves."""
    run = runs / "in_batch_negatives.1"
    report = tmp_path / "report"
    evaluate.evaluate(str(run), str(runs / "validation"), str(report))
    figures = json.loads((report / "metrics.json").read_text())
    logged = [line for line in read_lines(run) if line["event"] == "epoch"][-1]
    assert figures["loss"] == pytest.approx(logged["val_loss"], rel=1e-4)
    assert figures["accuracy"] == pytest.approx(logged["val_accuracy"], rel=1e-4)
    assert figures["loss"] < 0.69  # Better than the share of positives, one half.
    model = keras.models.load_model(run / "model.keras")
    assert model.output_shape == (None, 1)
