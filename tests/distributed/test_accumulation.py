"""Runs that accumulate gradients: the same on any number of ranks, and from any step on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.files import list_checkpoints, read_checkpoint
from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.runs import assert_same_tensors, make_options, read_last_checkpoint, read_lines

WORKER = "tests.distributed.workers.training"
SAVED = [2, 4, 5, 6, 8, 10]
"""Steps after which there are checkpoints; only that of step 6 has just made an update."""


def options(folder: Path, run: str, **more) -> str:
    """Three steps an update: of 2 epochs of 5 steps each, the last one is left over."""
    own = {"log_every": 1, "checkpoint_every": 2, "keep_checkpoints": 9, "gradient_accumulation": 3}
    return json.dumps(make_options(folder / "pairs", folder / run, **own | more))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same run on 1, 2 and 3 ranks; the last batch of an epoch has 2 pairs."""
    folder = tmp_path_factory.mktemp("accumulation")
    write_text_pairs(folder / "pairs", 50)
    for name, num_ranks in [("one", 1), ("two", 2), ("three", 3)]:
        run_ranks(WORKER, num_ranks, options(folder, name))
    return folder


def read_saved(run: Path):
    files = LocalFolder(run)
    return {
        checkpoint.step: checkpoint
        for checkpoint in (read_checkpoint(files, name) for name in list_checkpoints(files))
    }


@pytest.mark.parametrize("ranks", ["two", "three"])
@pytest.mark.parametrize("part", ["model", "optimizer", "metrics", "accumulated"])
def test_ranks_learn_what_one_process_learns(folder, ranks, part):
    """An update takes the end of one epoch and the beginning of the next."""
    assert_same_tensors(folder / ranks, folder / "one", part)
    assert any(name.startswith(part) for name in read_last_checkpoint(folder / "one").tensors)


@pytest.mark.parametrize("ranks", ["one", "two", "three"])
def test_checkpoints_are_made_where_they_are_due_with_what_waits_for_an_update(folder, ranks):
    saved = read_saved(folder / ranks)
    assert list(saved) == SAVED
    for step, checkpoint in saved.items():
        names = checkpoint.state["names"]["optimizer"]
        (updates,) = (
            int(value)
            for name, value in zip(names, checkpoint.part("optimizer"), strict=True)
            if name.endswith("iteration")
        )
        assert updates == step // 3
        passes = [int(array) for array in checkpoint.part("accumulated")[:1]]
        assert passes == ([step % 3] if step % 3 else [])


def resume(folder: Path, run: str, step: int, num_ranks: int) -> Path:
    """Goes on with a copy of a run from one of its checkpoints on."""
    copy = folder / f"{run} from {step} on {num_ranks}"
    shutil.copytree(folder / run, copy)
    (copy / "model.keras").unlink()
    for other in SAVED[SAVED.index(step) + 1 :]:
        shutil.rmtree(copy / "checkpoints" / f"step-{other:08d}")
    run_ranks(WORKER, num_ranks, options(folder, copy.name, resume=True))
    return copy


@pytest.mark.parametrize("step", [2, 5])
def test_one_process_goes_on_from_the_middle_of_an_accumulation_bit_by_bit(folder, step):
    resumed, whole = resume(folder, "one", step, 1), folder / "one"
    actual, expected = read_last_checkpoint(resumed), read_last_checkpoint(whole)
    assert actual.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert actual.tensors[name].tobytes() == tensor.tobytes(), name
    assert read_lines(resumed, of_machine=False) == read_lines(whole, of_machine=False)


@pytest.mark.parametrize(("run", "step", "num_ranks"), [("two", 4, 3), ("three", 5, 2)])
def test_ranks_go_on_from_what_others_have_accumulated(folder, run, step, num_ranks):
    assert_same_tensors(resume(folder, run, step, num_ranks), folder / "one")
