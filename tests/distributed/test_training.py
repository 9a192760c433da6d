"""Training runs of real ranks: the same result for any number of them, files by rank zero alone."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.data import OrderOptions, index_dataset, plan_dataset
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.files import list_checkpoints
from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.own_callbacks import read_notes, write_callbacks
from tests.runs import MACHINE_FIGURES, assert_same_tensors, make_options, read_lines

WORKER = "tests.distributed.workers.training"
STEPS_PER_EPOCH = 5  # 50 rows, 12 at a time: the last batch has 2, fewer than there are ranks.


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same configuration on 1, 2 and 3 ranks, and on 2 with the averaging taken out."""
    folder = tmp_path_factory.mktemp("runs")
    write_text_pairs(folder / "train", 50)
    plan = plan_dataset(
        index_dataset(str(folder / "train")),
        OrderOptions(seed=0, batch_size=12, num_streams=24),
        epoch=0,
    )
    # Of two steps no rank has a usable row, and of another only rank one of two.
    bad = {*range(0, 50, 5), *plan.rows_of_step(1), *plan.rows_of_step(4)}
    bad |= {*plan.rows_of_step(2, rank=0, size=2)}
    spoil(folder / "train", bad, weights=[0.0, 2.0, 1.0, 0.5])
    write_text_pairs(folder / "validation", 20, seed=1)
    (folder / "usable").mkdir()
    # In its own order 12 at a time, and no usable row in the second step.
    spoil(folder / "validation", {1, 4, *range(12, 20)}, usable=folder / "usable")
    for name, num_ranks, broken in [
        ("one", 1, []),
        ("two", 2, []),
        ("three", 3, []),
        ("broken", 2, ["averaging"]),
    ]:
        options = make_options(
            folder / "train",
            folder / name,
            validation=str(folder / "validation"),
            learning_rate=0.003,
            head="absolute_difference",
            log_every=2,
            checkpoint_every=3,
            keep_checkpoints=9,
            on_bad_row="skip",
        )
        run_ranks(WORKER, num_ranks, json.dumps(options), *broken)
    return folder


def spoil(folder: Path, bad, *, weights=(), usable: Path | None = None) -> None:
    """Takes one item of the rows `bad` of a dataset of two halves, and gives all rows weights.

    The rows that are left are written to the folder `usable`.
    """
    first = 0
    for file in sorted(folder.iterdir()):
        rows = pq.read_table(file).to_pylist()
        for row, values in enumerate(rows, first):
            values["a"] = None if row in bad else values["a"]
            if weights:
                values["weight"] = weights[row % len(weights)]
        first += len(rows)
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=7)
        if usable is not None:
            left = [values for values in rows if values["a"] is not None]
            if left:
                pq.write_table(pa.Table.from_pylist(left), usable / file.name)


@pytest.mark.parametrize("ranks", ["two", "three"])
@pytest.mark.parametrize("part", ["model", "optimizer", "metrics"])
def test_ranks_learn_what_one_process_learns(runs, ranks, part):
    """Of rows with weights, also of 0, and with bad ones left out, also whole steps of them."""
    assert_same_tensors(runs / ranks, runs / "one", part)


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_the_comparison_notices_that_averaging_is_missing(runs, part):
    with pytest.raises(AssertionError):
        assert_same_tensors(runs / "broken", runs / "one", part)


@pytest.mark.parametrize("ranks", ["one", "two", "three"])
def test_metrics_are_written_once_for_each_interval_and_epoch(runs, ranks):
    places = [(line["event"], line["epoch"], line["step"]) for line in read_lines(runs / ranks)]
    assert places == [
        ("step", 1, 2),
        ("step", 1, 4),
        ("epoch", 1, 5),
        ("step", 2, 6),
        ("step", 2, 8),
        ("step", 2, 10),
        ("epoch", 2, 10),
    ]


@pytest.mark.parametrize("ranks", ["two", "three"])
def test_metrics_are_those_of_all_ranks(runs, ranks):
    for actual, expected in zip(read_lines(runs / ranks), read_lines(runs / "one"), strict=True):
        assert actual.keys() == expected.keys()
        for name in expected.keys() - MACHINE_FIGURES - {"event"}:
            assert actual[name] == pytest.approx(expected[name], rel=1e-4), name


def test_one_process_waits_for_no_other(runs):
    assert {line["collective_wait_share"] for line in read_lines(runs / "one")} == {0.0}


def test_bad_rows_of_all_ranks_are_told_by_rank_zero(tmp_path):
    table = pq.read_table(write_text_pairs(tmp_path / "written", 40) / "one.parquet").to_pydict()
    bad = range(3, 20, 5)  # In row groups of five, one in each.
    for row in bad:
        table["label"][row] = 9
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.table(table), tmp_path / "pairs" / "one.parquet", row_group_size=5)
    options = {
        "pairs": str(tmp_path / "pairs"),
        "output": str(tmp_path / "run"),
        "epochs": 1,
        "batch_size": 4,
        "on_bad_row": "skip",
    }
    zero, one = run_ranks(WORKER, 2, json.dumps(options))
    [line] = [line for line in zero.output.splitlines() if "bad rows were left out" in line]
    assert line.startswith("4 bad rows")
    assert all(f"row group {group}, row 3: its label is 9" in line for group in range(4))
    assert "bad rows" not in one.output


def read_exchanges(timeline: Path) -> list[str]:
    """The names of what rank zero has exchanged, in order; `step` for the gradients of a step."""
    text = timeline.read_text().rstrip().rstrip(",")
    events = json.loads(text if text.endswith("]") else f"{text}]")
    names = {e["pid"]: e["args"].get("name", "") for e in events if e.get("name") == "process_name"}
    begun = [names[e["pid"]] for e in events if e.get("name", "").startswith("NEGOTIATE_")]
    of_gradients = re.compile(r"sharedlayers_dist\.\d+\.gradients\.0\.float32_(\d+)of\d+")
    found = [(of_gradients.fullmatch(name), name) for name in begun]
    return ["step" if part else name for part, name in found if part is None or part[1] == "1"]


def test_ranks_exchange_nothing_between_steps_but_the_gradients(tmp_path):
    """What they tell of checkpoints and of stopping travels with these."""
    write_text_pairs(tmp_path / "pairs", 60)
    options = make_options(tmp_path / "pairs", tmp_path / "run", log_every=99)
    run_ranks(WORKER, 2, json.dumps(options), env={"HOROVOD_TIMELINE": str(tmp_path / "timeline")})
    exchanges = read_exchanges(tmp_path / "timeline")
    first, last = exchanges.index("step"), len(exchanges) - exchanges[::-1].index("step")
    of_epochs = exchanges[first:last]
    assert of_epochs[:5] == of_epochs[-5:] == ["step"] * 5
    assert of_epochs.count("step") == 2 * 5
    assert len(of_epochs) > 2 * 5  # The ends of epochs, which are seen: they do exchange more.


def test_callbacks_of_a_users_own_are_made_on_every_rank(tmp_path):
    pairs = write_text_pairs(tmp_path / "pairs", 24)
    options = make_options(pairs, tmp_path / "run", callbacks=write_callbacks(tmp_path))
    run_ranks(WORKER, 2, json.dumps(options))
    for rank in range(2):
        assert read_notes(tmp_path, rank) == ["begin", "epoch 1", "epoch 2", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("late", [0, 1])
def test_the_share_of_time_in_collectives_is_what_rank_zero_waits_for_others(runs, tmp_path, late):
    """In the second epoch: nothing is compiled any more, and most of the time one rank sleeps."""
    options = {
        "pairs": str(runs / "train"),
        "output": str(tmp_path / "run"),
        "epochs": 2,
        "batch_size": 12,
        "on_bad_row": "skip",
    }
    run_ranks(WORKER, 2, json.dumps(options), late)
    *_, last = read_lines(tmp_path / "run")
    assert 0 < last["collective_wait_share"] < 1
    assert (last["collective_wait_share"] > 0.4) == (late == 1), last


def test_the_loss_logged_is_the_mean_over_the_usable_pairs_of_the_validation_set(runs):
    from sharedlayers_dist.evaluate import TrainedRun
    from sharedlayers_dist.evaluate.figures import measure
    from sharedlayers_dist.evaluate.scoring import score_pairs

    index = index_dataset(str(runs / "usable"))
    scored = score_pairs(TrainedRun.load(str(runs / "two")), index, batch_size=7)
    figures = measure(scored.labels, scored.scores, scored.weights)
    last = read_lines(runs / "two")[-1]
    assert last["val_loss"] == pytest.approx(figures.loss, rel=1e-4)
    assert last["val_accuracy"] == pytest.approx(figures.accuracy)


@pytest.mark.parametrize("ranks", ["one", "two"])
def test_the_run_folder_holds_what_it_should(runs, ranks):
    run = runs / ranks
    assert {path.name for path in run.iterdir()} == {
        "best.keras",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "model.keras",
    }
    assert list_checkpoints(LocalFolder(run)) == [f"step-{step:08d}" for step in (3, 5, 6, 9, 10)]
    config = json.loads((run / "config.json").read_text())
    assert config["batch_size"] == 12
    assert config["alphabet"].startswith(" ")


def test_the_model_opens_and_trains_in_plain_keras(runs, tmp_path):
    """In a process that can import neither this package nor Horovod."""
    code = """
import sys
for name in ("sharedlayers_dist", "horovod"):
    sys.modules[name] = None
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
assert type(model.optimizer) is keras.optimizers.RMSprop
assert int(model.optimizer.iterations) == 10
matrices = np.zeros((4, 280, 256), "float32")
matrices[:, np.arange(200, 280), np.arange(80)] = 1
scores = model.predict([matrices, matrices], verbose=0)
assert scores.shape == (4, 1) and np.isfinite(scores).all()
before = model.get_weights()
model.fit([matrices, matrices], np.ones((4, 1)), verbose=0)
assert int(model.optimizer.iterations) == 11
assert any((a != b).any() for a, b in zip(before, model.get_weights()))
"""
    subprocess.run(
        [sys.executable, "-c", code, str(runs / "two" / "model.keras")],
        check=True,
        cwd=tmp_path,
        timeout=120,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
    )


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_run_goes_on_from_the_middle_of_an_epoch(runs, tmp_path, num_ranks):
    """The newest checkpoints are removed, so that the run goes on after step 3 of 10."""
    run = tmp_path / "resumed"
    subprocess.run(["cp", "-r", str(runs / "two"), str(run)], check=True)
    (run / "model.keras").unlink()
    for name in list_checkpoints(LocalFolder(run))[1:]:
        subprocess.run(["rm", "-r", str(run / "checkpoints" / name)], check=True)
    options = json.loads((run / "config.json").read_text())
    config = {
        name: options[name]
        for name in (
            "pairs",
            "validation",
            "epochs",
            "batch_size",
            "learning_rate",
            "head",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
            "on_bad_row",
        )
    }
    config |= {"output": str(run), "resume": True}
    run_ranks(WORKER, num_ranks, json.dumps(config))
    for part in ("model", "optimizer", "metrics"):
        assert_same_tensors(run, runs / "one", part)
    resumed, whole = read_lines(run), read_lines(runs / "one")
    assert [line["step"] for line in resumed] == [line["step"] for line in whole]
    for actual, expected in zip(resumed, whole, strict=True):
        assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert actual["roc_auc"] == pytest.approx(expected["roc_auc"], rel=1e-4)
    trained = keras.models.load_model(run / "model.keras")
    assert int(trained.optimizer.iterations) == 2 * STEPS_PER_EPOCH


def test_an_error_of_rank_zero_ends_all_ranks(tmp_path):
    """Rank zero alone looks at the data; the others must not wait for it."""
    options = {"pairs": str(tmp_path / "none"), "output": str(tmp_path / "run")}
    results = run_ranks(WORKER, 2, json.dumps(options), check=False, timeout=60)
    assert [r.returncode != 0 for r in results] == [True, True]
    assert all("none" in r.output and "Rank 0" in r.output for r in results)
    assert not (tmp_path / "run").exists()
