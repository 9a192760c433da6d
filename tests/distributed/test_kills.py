"""Runs that are killed and resumed end as if nothing had happened."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.runs import make_options, read_last_checkpoint, read_lines

KILLED = "tests.distributed.workers.killed"
IN_A_SAVE = ["tensors.safetensors", 0.0]
"""A kill between two files of a checkpoint."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_text_pairs(folder / "train", 50)
    write_text_pairs(folder / "validation", 20, seed=1)
    return folder


def options(pairs: Path, run: Path, **more) -> dict:
    """5 steps an epoch; the loss gets smaller, which counts as worse: the learning rate is cut."""
    own = {
        "validation": str(pairs / "validation"),
        "learning_rate": 0.02,
        "log_every": 1,
        "monitor_mode": "max",
        "plateau": 1,
        "early_stopping": 90,
        "keep_checkpoints": 2,
    }
    return make_options(pairs / "train", run, **own | more)


def train_with_kills(config: dict, kills: list) -> list[dict]:
    """How each process ended: all but the last were killed."""
    (rank,) = run_ranks(KILLED, 1, json.dumps(config), json.dumps(kills), timeout=900)
    ends = [json.loads(line) for line in rank.output.splitlines() if line.startswith('{"kill"')]
    assert [end["code"] for end in ends] == [-signal.SIGKILL] * len(kills) + [0], rank.output
    return ends


def assert_same_run(run: Path, expected: Path) -> None:
    """Bit for bit."""
    actual, wanted = read_last_checkpoint(run), read_last_checkpoint(expected)
    assert actual.step == wanted.step
    assert actual.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        assert actual.tensors[name].tobytes() == tensor.tobytes(), name
    for name in ("position", "callbacks", "metrics"):
        assert actual.state[name] == wanted.state[name]
    assert read_lines(run, of_machine=False) == read_lines(expected, of_machine=False)
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]


def test_a_killed_run_ends_as_one_that_nobody_disturbed(pairs, tmp_path):
    """Killed in mid-epoch, in the middle of a save, right at the start, and in the second epoch."""
    config = {"epochs": 3}
    train_with_kills(options(pairs, tmp_path / "whole", **config), [])
    kills = [[4, 0.0], IN_A_SAVE, [0, 0.2], [4, 0.02]]
    config["checkpoint_every"] = 1
    ends = train_with_kills(options(pairs, tmp_path / "killed", **config), kills)
    assert ends[1]["was_saving"]
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_resumed_run_stops_early_after_the_same_epoch(pairs, tmp_path):
    """The loss counts as worse in each epoch but the first: the learning rate is cut three times.

    Killed in the second epoch, in the third and in the fourth, and resumed when it has stopped.
    """
    config = {"epochs": 9, "early_stopping": 3}
    train_with_kills(options(pairs, tmp_path / "whole", **config), [])
    killed = options(pairs, tmp_path / "killed", checkpoint_every=1, **config)
    train_with_kills(killed, [[8, 0.0], [5, 0.0], IN_A_SAVE, [6, 0.0]])
    lines = read_lines(tmp_path / "killed")
    assert [line["epoch"] for line in lines if line["event"] == "epoch"] == [1, 2, 3, 4]
    last = read_last_checkpoint(tmp_path / "killed")
    named = zip(last.state["names"]["optimizer"], last.part("optimizer"), strict=True)
    (rate,) = [value for name, value in named if name.endswith("learning_rate")]
    assert rate == pytest.approx(0.02 * 0.2**3)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    train_with_kills(killed, [])
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_fifty_random_kills_change_nothing(pairs, tmp_path):
    rng = np.random.default_rng(5)
    kills = [
        ["save", float(rng.uniform(0, 0.01))]
        if rng.random() < 0.3
        else [int(rng.integers(0, 4)), float(rng.uniform(0, 0.3))]
        for _ in range(50)
    ]
    kills[10] = kills[30] = IN_A_SAVE
    config = {"epochs": 30, "monitor_mode": "min"}
    train_with_kills(options(pairs, tmp_path / "whole", **config), [])
    ends = train_with_kills(
        options(pairs, tmp_path / "killed", checkpoint_every=2, **config), kills
    )
    assert sum(end["was_saving"] for end in ends) >= 2
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
