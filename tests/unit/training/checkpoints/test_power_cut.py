"""Whatever file operation of the writer is its last, a good checkpoint can be read."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.files import list_checkpoints, read_newest_checkpoint
from sharedlayers_dist.training.checkpoints.manager import CheckpointManager
from tests.distributed.launcher import REPOSITORY
from tests.unit.training.checkpoints.power_cut import NUM_STEPS, POLICY
from tests.unit.training.checkpoints.samples import assert_is_whole, make_checkpoint

FEWEST_CUTS = 60


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuts")
    command = [sys.executable, "-m", "tests.unit.training.checkpoints.power_cut", str(folder)]
    subprocess.run(command, check=True, cwd=REPOSITORY, timeout=120)
    cuts = json.loads((folder / "written.json").read_text())
    assert len(cuts) > FEWEST_CUTS
    return cuts


def test_the_last_checkpoint_or_the_one_under_way_is_there(cuts):
    for cut in cuts:
        run = LocalFolder(Path(cut["folder"]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Not even a damaged one may be seen.
            newest = read_newest_checkpoint(run)
        if newest is None:
            assert cut["step"] == 0, cut
            continue
        assert newest.step in (cut["step"], cut["step"] + 1), cut
        assert_is_whole(newest)


def test_a_model_is_the_old_one_or_the_new_one(cuts):
    for cut in cuts:
        run = LocalFolder(Path(cut["folder"]))
        versions = [bytes([version]) * 1000 for version in (1, 2)]
        if "model.keras" in run.names():
            possible = versions[max(cut["model"] - 1, 0) : cut["model"] + 1]
            assert run.read("model.keras") in possible, cut
        else:
            assert cut["model"] == 0, cut


def test_lines_up_to_the_checkpoint_are_there(cuts):
    for cut in cuts:
        if cut["step"]:
            lines = LocalFolder(Path(cut["folder"])).read("metrics.jsonl").splitlines()
            steps = [json.loads(line)["step"] for line in lines[: cut["step"]]]
            assert steps == list(range(1, cut["step"] + 1)), cut


def test_the_next_run_cleans_up_and_goes_on(cuts):
    for cut in cuts:
        folder = Path(cut["folder"])
        run = LocalFolder(folder)
        run.clean()
        run.clean("checkpoints")
        newest = read_newest_checkpoint(run)
        start = newest.step if newest is not None else 0
        manager = CheckpointManager(run, POLICY, before=lambda: None, start=start)
        for step in range(start + 1, NUM_STEPS + 2):
            manager.save(make_checkpoint(step), {})
            assert manager.wait(60)
            assert manager.take_error() is None
        assert list_checkpoints(run) == ["step-00000004", "step-00000005"], cut
        assert not list(folder.rglob(".*")), cut
        assert len(list((folder / "checkpoints").rglob("*"))) == 2 * (1 + 3), cut
