"""A file of options under several ranks: each reads it on its host, and all must find the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.runs import make_options, read_lines

BIN = Path(sys.executable).parent
WORKER = "tests.distributed.workers.configured"


@pytest.fixture
def options(tmp_path):
    """5 steps an epoch."""
    pairs = write_text_pairs(tmp_path / "pairs", 50)
    return make_options(pairs, tmp_path / "run", epochs=1, head="cosine")


def write(folder: Path, *contents: dict) -> None:
    """The file of each rank's host; none for a rank without contents."""
    for rank, content in enumerate(contents):
        lines = [f"{name} = {json.dumps(value)}" for name, value in content.items()]
        (folder / f"rank-{rank}.toml").write_text("\n".join(lines))


def test_ranks_train_by_one_file(tmp_path, options):
    write(tmp_path, options, options)
    first, _ = run_ranks(WORKER, 2, tmp_path)
    assert "5 steps in 1 epochs" in first.output
    assert read_lines(tmp_path / "run")[-1]["step"] == 5


def test_ranks_whose_files_differ_are_refused(tmp_path, options):
    write(tmp_path, options, options | {"seed": 1, "head": "concatenation"})
    ended = run_ranks(WORKER, 2, tmp_path, check=False)
    assert [rank.returncode for rank in ended] == [2, 2]
    (told,) = [line for rank in ended for line in rank.output.splitlines() if "Received" in line]
    assert "All ranks must have the same options." in told
    assert "head='concatenation', and on rank 0 head='cosine'" in told
    assert "seed=1, and on rank 0 seed=0" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_rank_without_the_file_says_so(tmp_path, options):
    write(tmp_path, options)
    ended = run_ranks(WORKER, 2, tmp_path, check=False)
    assert ended[1].returncode == 2
    assert "sharedlayers (rank 1): A file of options must be one that can" in ended[1].output


def test_a_wrong_file_is_told_once_under_horovodrun(tmp_path):
    (tmp_path / "run.toml").write_text("epoch = 3")
    ended = subprocess.run(
        [
            *(BIN / "horovodrun", "-np", "2", BIN / "sharedlayers", "train"),
            *("--config", tmp_path / "run.toml"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    assert ended.returncode == 1
    assert ended.stdout.count("The nearest is `epochs`") == 1, ended.stdout
