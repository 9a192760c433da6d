"""Storage that is full, slow, cut off or without power: what was good before stays good."""

import json
import os
import resource
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.training.checkpoints.files import (
    list_checkpoints,
    read_checkpoint,
    read_newest_checkpoint,
    write_checkpoint,
)
from sharedlayers_dist.training.checkpoints.manager import CheckpointManager, CheckpointWriteError
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
from tests.distributed.launcher import REPOSITORY
from tests.object_store import Way, make_bucket, make_uri
from tests.unit.training.checkpoints.power_cut import NUM_STEPS, POLICY
from tests.unit.training.checkpoints.samples import (
    assert_is_whole,
    assert_still_good,
    make_checkpoint,
    write_two,
)

FEWEST_CUTS = 60


def save_step(run, step, *, start, newest=2):
    """Writes one checkpoint as a run does; returns what that failed with."""
    manager = CheckpointManager(
        run, RetentionPolicy(newest=newest), before=lambda: None, start=start
    )
    manager.save(make_checkpoint(step), {})
    assert manager.wait(120)
    return manager.take_error()


def test_a_file_that_may_not_grow_leaves_the_older_checkpoints(tmp_path):
    run = write_two(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        error = save_step(run, 3, start=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(error, CheckpointWriteError)
    assert "File too large" in str(error)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000001",
        "step-00000002",
    ]
    assert_still_good(run)
    assert save_step(run, 3, start=2) is None
    assert_still_good(run, 3)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_older_checkpoints(small_disk):
    run = write_two(small_disk)
    with (small_disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096) == 4096:  # The last write that fits is cut short ...
            if os.statvfs(small_disk).f_bavail == 0:  # ... unless it fits exactly.
                break
    error = save_step(run, 3, start=2)
    assert isinstance(error, CheckpointWriteError)
    assert "No space left on device" in str(error)
    assert list_checkpoints(run) == ["step-00000001", "step-00000002"]
    assert_still_good(run)
    with pytest.raises(OSError, match="No space"):
        run.write("model.keras", b"x" * 10_000)
    assert not list(small_disk.rglob(".*"))
    (small_disk / "filler").unlink()
    assert save_step(run, 3, start=2) is None
    assert_still_good(run, 3)


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_store_that_is_cut_off_between_two_requests(object_store, stride):
    """Replaces checkpoint 1 of two by 3; the way to the store is cut after so many requests."""

    def write_with_cut(num_requests: int) -> bool:
        bucket = (
            f"cut-{stride}-{num_requests}"  # The server cannot list one that changes meanwhile.
        )
        make_bucket(bucket, object_store)
        uri = f"{bucket}/run"
        straight = open_folder(make_uri(uri, object_store))
        for step in (1, 2):
            write_checkpoint(straight, make_checkpoint(step), {})
        passed = iter(range(num_requests))
        with Way(object_store, may_pass=lambda line: next(passed, None) is not None) as way:
            try:
                error = save_step(open_folder(make_uri(uri, way.address)), 3, start=2)
            except OSError as e:  # Cut before the first checkpoint was asked for.
                error = e
            was_cut = way.is_cut
        assert (error is not None) == was_cut, (num_requests, error)
        newest = read_newest_checkpoint(straight)
        assert newest is not None
        assert newest.step in ((2, 3) if was_cut else (3,))
        assert_is_whole(newest)
        assert save_step(straight, 4, start=newest.step) is None
        kept = [f"step-{newest.step:08d}", "step-00000004"]
        assert list_checkpoints(straight) == kept, num_requests
        assert_is_whole(read_checkpoint(straight, "step-00000004"))
        return was_cut

    # Filters of warnings are the process's, not the thread's: they are set around the threads.
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("ignore")  # A damaged one may be passed over.
        was_cut = list(pool.map(write_with_cut, range(0, 60, stride)))
    assert was_cut == sorted(was_cut, reverse=True)
    assert 1 < sum(was_cut) < len(was_cut)


def test_a_slow_store_does_not_hold_up_the_training(object_store):
    """It answers nothing before the training has gone on."""
    make_bucket("slow", object_store)
    may_answer = threading.Event()
    may_answer.set()
    with Way(object_store, may_pass=lambda line: may_answer.wait(60), seconds=0.05) as way:
        run = open_folder(make_uri("slow/run", way.address))
        manager = CheckpointManager(run, RetentionPolicy(newest=2), before=lambda: None, start=0)
        may_answer.clear()
        manager.save(make_checkpoint(1), {})
        assert manager.is_busy
        may_answer.set()
        assert manager.wait(60)
        assert manager.take_error() is None
        assert_still_good(run, 1)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """A run folder for each file operation of a writer, which was its last."""
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
