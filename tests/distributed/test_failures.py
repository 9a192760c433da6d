"""One rank fails, is lost, or is asked to stop: all end, one says why, the run goes on later."""

import json
import re
import signal
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.storage.folder import open_folder
from sharedlayers_dist.training.checkpoints.files import (
    list_checkpoints,
    read_newest_checkpoint,
    step_of_name,
)
from sharedlayers_dist.training.preemption import EXIT_CODE
from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.object_store import Way, make_bucket, make_uri
from tests.runs import assert_same_tensors, make_options, read_lines

WORKER = "tests.distributed.workers.failing"
SECONDS_TO_END = 60.0


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "train"
    return write_text_pairs(folder, 50)


def options(pairs: Path, run: Path | str, **more) -> dict:
    """4 full steps an epoch, and one of 2 pairs."""
    own = {"log_every": 1, "checkpoint_every": 1, "keep_checkpoints": 9}
    return make_options(pairs, run, **own | more)


def train(num_ranks: int, config: dict, *, rank: int = 0, how: str = "none", step: int = 0):
    return run_ranks(
        WORKER,
        num_ranks,
        json.dumps(config),
        rank,
        how,
        step,
        check=False,
        timeout=150,
        seconds_after_first_failure=SECONDS_TO_END,
    )


def steps(run: Path | str) -> list[int]:
    return [step_of_name(name) for name in list_checkpoints(open_folder(str(run)))]


def told(results, text: str) -> list[int]:
    """Which rank says `text`, once for each time."""
    return [r.rank for r in results for _ in range(r.output.count(text))]


def assert_no_line_is_missing_or_repeated(run: Path | str) -> None:
    expected = [("step", step) for step in range(1, 11)]
    expected[5:5] = [("epoch", 5)]
    assert [(line["event"], line["step"]) for line in read_lines(run)] == [*expected, ("epoch", 10)]


@pytest.fixture(scope="module")
def whole(pairs, tmp_path_factory):
    """The run that nobody disturbed, on one rank."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    (result,) = train(1, options(pairs, run))
    assert result.returncode == 0, result.output
    return run


@pytest.mark.parametrize(
    ("lost", "resumed_on"), [(0, 2), pytest.param(1, 1, marks=pytest.mark.slow)]
)
def test_a_killed_rank_ends_the_others_and_the_run_goes_on(
    pairs, whole, tmp_path, lost, resumed_on
):
    run = tmp_path / "run"
    results = train(2, options(pairs, run), rank=lost, how="kill", step=4)
    codes = [r.returncode for r in results]
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] == 1, results[1 - lost].output
    assert told(results, "A rank was lost without a word") == [1 - lost]
    assert max(steps(run)) == 3
    results = train(resumed_on, options(pairs, run, resume=True))
    assert [r.returncode for r in results] == [0] * resumed_on, results[0].output
    assert "going on after step" in results[0].output
    assert_same_tensors(run, whole)
    assert_no_line_is_missing_or_repeated(run)


@pytest.mark.parametrize(
    ("how", "rank", "code", "text"),
    [
        ("callback", 1, 1, "ValueError: operands could not be broadcast together"),
        pytest.param(
            *("callback", 0, 1, "ValueError: operands could not be broadcast together"),
            marks=pytest.mark.slow,
        ),
        pytest.param("exit", 1, 1, "this callback leaves", marks=pytest.mark.slow),
        pytest.param("step", 1, 1, "Condition x < y did not hold", marks=pytest.mark.slow),
        ("storage", 0, 1, "A run must be able to write its checkpoints"),
    ],
)
def test_a_failure_of_one_rank_is_told_once_and_ends_all(pairs, tmp_path, how, rank, code, text):
    results = train(2, options(pairs, tmp_path / "run"), rank=rank, how=how, step=3)
    outputs = "\n".join(r.output for r in results)
    assert [r.returncode for r in results] == [code, code], outputs
    assert told(results, text) == [rank], outputs
    assert told(results, "A rank was lost") == [], outputs
    if how in ("callback", "step"):
        assert told(results, "Traceback (most recent call last)")[0] == rank, outputs
        assert told(results, f"This was rank {rank} of 2.") == [rank], outputs
        assert results[rank].output.rstrip().endswith(f"This was rank {rank} of 2."), outputs
    if how == "storage":
        assert "sharedlayers (rank 0): Rank 0: A run must" in results[0].output
        assert steps(tmp_path / "run") == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["manifest.json", "tensors.safetensors"])
def test_a_store_that_is_cut_off_ends_all_and_the_run_goes_on_when_it_is_back(
    pairs, whole, object_store, file
):
    """Cut for good when that file of a checkpoint after step 2 is being written."""
    bucket = f"cut-{file.split('.')[0]}"
    make_bucket(bucket, object_store)

    def may_pass(line: bytes) -> bool:
        is_write = line.startswith((b"PUT", b"POST")) and file.encode() in line
        return not is_write or int(re.findall(rb"step-(\d+)", line)[0]) <= 2

    with Way(object_store, may_pass=may_pass) as way:
        results = train(2, options(pairs, make_uri(f"{bucket}/run", way.address)))
    outputs = "\n".join(r.output for r in results)
    assert [r.returncode for r in results] == [1, 1], outputs
    assert told(results, "A run must be able to write its checkpoints") == [0], outputs
    assert told(results, "Traceback") == [], outputs
    assert "secret" not in outputs
    run = make_uri(f"{bucket}/run", object_store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The one that was cut off is passed over.
        good = read_newest_checkpoint(open_folder(run))
    assert good is not None
    results = train(2, options(pairs, run, resume=True))
    assert [r.returncode for r in results] == [0, 0], results[0].output
    assert f"going on after step {good.step}" in results[0].output
    assert_same_tensors(run, whole)
    assert_no_line_is_missing_or_repeated(run)


def test_a_row_that_only_one_rank_reads_ends_all(pairs, tmp_path):
    """The bad row's text is missing; it is the other ranks' batches that are whole."""
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in pairs.iterdir():
        table = pq.read_table(path)
        if path.name == "two.parquet":
            texts = table["b"].to_pylist()
            texts[-1] = None
            table = table.set_column(1, "b", pa.array(texts, pa.string()))
        pq.write_table(table, bad / path.name, row_group_size=7)
    results = train(2, options(bad, tmp_path / "run"))
    outputs = "\n".join(r.output for r in results)
    assert [r.returncode for r in results] == [2, 2], outputs
    (reader,) = told(results, "two.parquet")
    assert told(results, "A rank was lost") == [], outputs
    last = results[reader].output.rstrip().splitlines()[-1]
    assert last.startswith(f"sharedlayers (rank {reader}): "), outputs


@pytest.mark.parametrize(
    ("how", "rank"), [("sigterm", 1), pytest.param("sigint", 0, marks=pytest.mark.slow)]
)
def test_a_rank_that_is_asked_to_stop_stops_all_at_the_same_step(pairs, whole, tmp_path, how, rank):
    run = tmp_path / "run"
    config = options(pairs, run, checkpoint_every=0)
    results = train(2, config, rank=rank, how=how, step=3)
    outputs = "\n".join(r.output for r in results)
    assert [r.returncode for r in results] == [EXIT_CODE, EXIT_CODE], outputs
    # Ranks tell each other of it with the gradients of the step that begins next.
    assert told(results, "It has saved itself after step 4") == [0], outputs
    assert steps(run) == [4]
    (result,) = train(1, config | {"resume": True})
    assert result.returncode == 0, result.output
    assert_same_tensors(run, whole)


@pytest.mark.slow
def test_a_request_to_stop_during_validation_acts_when_that_has_ended(pairs, tmp_path):
    run = tmp_path / "run"
    config = options(pairs, run, validation=str(pairs), checkpoint_every=0)
    results = train(2, config, rank=1, how="validation", step=2)
    outputs = "\n".join(r.output for r in results)
    assert [r.returncode for r in results] == [EXIT_CODE, EXIT_CODE], outputs
    assert told(results, "It has saved itself after step 5") == [0], outputs
    assert steps(run) == [5]
    *_, last = read_lines(run)
    assert (last["event"], last["step"]) == ("epoch", 5)
    checkpoint = read_newest_checkpoint(open_folder(str(run)))
    assert checkpoint is not None
    assert last["val_loss"] == checkpoint.state["metrics"]["val_loss"]


def test_a_second_ctrl_c_leaves_at_once(pairs, tmp_path):
    (result,) = train(1, options(pairs, tmp_path / "run"), how="twice", step=2)
    assert result.returncode == -signal.SIGINT, result.output
