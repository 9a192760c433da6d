"""What a run shows: its own lines and nothing else, under each way to start it on this machine."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.pairs import write_text_pairs

BIN = Path(sys.executable).parent
OWN = [
    r"tweet_pair \(concatenation\) on 12 pairs, 6 a step, over [12] rank\(s\)",
    r"epoch 1/1: loss .* pairs/s.*",
    r"2 steps in 1 epochs: .*loss .*",
    r"model: .*/run/model\.keras",
]


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
