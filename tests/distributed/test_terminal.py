"""What a run shows: its own lines and nothing else, under each way to start it on this machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.launcher import REPOSITORY
from tests.distributed.pairs import write_text_pairs

BIN = Path(sys.executable).parent
OWN = [
    r"tweet_pair on 12 pairs, 6 a step, over (1 rank\(s\)|2 rank\(s\), \d+ core\(s\) each)",
    r"epoch 1/1: loss .* pairs/s.*",
    r"2 steps in 1 epochs: .*loss .*",
    r"model: .*/run/model\.keras",
]
NOTES = re.compile(
    r"absl::|^[IWEF]\d{4} |\.cc:\d+\]|oneDNN|\bcuda|TensorFlow binary|grpc", re.MULTILINE | re.I
)
"""What the C++ code of TensorFlow and of the libraries in it notes for itself."""


def find_notes(shown: str) -> list[str]:
    return [line for line in shown.splitlines() if NOTES.search(line)]


@pytest.mark.parametrize("launcher", [[], [BIN / "horovodrun", "-np", "2"]], ids=["one", "two"])
def test_a_run_shows_its_own_lines_alone(tmp_path, launcher):
    pairs = write_text_pairs(tmp_path / "pairs", 12)
    run = subprocess.run(
        [
            *(*launcher, BIN / "sharedlayers", "train", "--pairs", pairs),
            *("--output", tmp_path / "run", "--epochs", "1", "--batch-size", "6"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    assert run.returncode == 0, run.stdout
    lines = [re.sub(r"^\[\d\]<std(out|err)>:", "", line) for line in run.stdout.splitlines()]
    assert len(lines) == len(OWN), run.stdout
    for own in OWN:  # The streams may come in any order.
        assert [line for line in lines if re.fullmatch(own, line)], run.stdout


@pytest.mark.parametrize("script", ["digits", "tweets"])
def test_a_dataset_script_shows_the_sets_alone(tmp_path, script):
    run = subprocess.run(
        [
            *(sys.executable, REPOSITORY / "datasets" / f"{script}.py"),
            *("--output", tmp_path / "pairs", "--num-pairs", "200"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert [line.split()[0] for line in run.stdout.splitlines()] == [
        "Made",
        "train",
        "validation",
        "test",
    ]


def test_the_benchmarks_load_tensorflow_without_its_notes():
    """All of them in one process, which then does a first operation."""
    paths = (REPOSITORY / "tests" / "benchmarks").glob("[a-z]*.py")
    names = sorted(f"tests.benchmarks.{path.stem}" for path in paths)
    program = "\n".join(f"import {name}" for name in names)
    run = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport keras; keras.ops.ones(2) + 1"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
    )
    assert run.returncode == 0, run.stdout
    assert run.stdout == ""
