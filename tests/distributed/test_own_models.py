"""Models of a user's own on real ranks: each kind ends with the weights of one process."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.distributed import own_models
from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.runs import read_last_checkpoint, read_lines

WORKER = "tests.distributed.workers.own_models"
KINDS = [kind.__name__ for kind in own_models.EXACT]


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All kinds on 1 and 3 ranks; of 50 pairs the last batch has 2, fewer than ranks."""
    folder = tmp_path_factory.mktemp("own")
    write_text_pairs(folder / "pairs", 50)
    for size in (1, 3):
        names = (*KINDS, "plain_norm")
        output = folder / str(size)
        ended = run_ranks(WORKER, size, folder / "pairs", output, *names, timeout=280)
        (output / "said").write_text(ended[0].output)
    return folder


def distance(runs: Path, kind: str) -> float:
    """The largest difference of a weight between both runs, relative to the largest weight."""
    alone, together = (read_last_checkpoint(runs / size / kind) for size in "13")
    assert alone.step == together.step
    return max(
        np.abs(np.subtract(ours, wanted, dtype=np.float64)).max() / np.abs(wanted).max()
        for ours, wanted in zip(together.part("model"), alone.part("model"), strict=True)
        if np.abs(wanted).max() > 0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_model_ends_alike_on_one_rank_and_on_three(runs, kind):
    assert distance(runs, kind) < 1e-4
    lines = [read_lines(runs / size / kind, of_machine=False) for size in "31"]
    for line, wanted in zip(*lines, strict=True):
        assert line.pop("event") == wanted.pop("event")
        assert line == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def test_statistics_of_each_ranks_own_pairs_make_another_model(runs):
    assert distance(runs, "plain_norm") > 1e-3


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
    assert config["model"] == "tests.distributed.own_models:char_cnn"
    kept = runs / "3" / "char_cnn" / "source" / "tests" / "distributed" / "own_models.py"
    assert kept.read_text() == Path(own_models.__file__).read_text()
    assert set(config["source"]["modules"]) == {
        "tests",
        "tests.distributed",
        "tests.distributed.own_models",
    }
