"""Storage that is damaged, full, slow or gone: what was good before stays good, and all is said."""

import os
import resource
import subprocess
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.training.checkpoints.files import (
    DamagedCheckpointError,
    list_checkpoints,
    read_checkpoint,
    read_newest_checkpoint,
    write_checkpoint,
)
from sharedlayers_dist.training.checkpoints.manager import (
    CheckpointManager,
    CheckpointWriteError,
    read_metrics,
)
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
from tests.object_store import Way, make_bucket, make_uri
from tests.unit.training.checkpoints.samples import assert_is_whole, make_checkpoint

FILES = ["manifest.json", "state.json", "tensors.safetensors"]


def write_two(folder: Path) -> LocalFolder:
    run = LocalFolder(folder)
    for step in (1, 2):
        write_checkpoint(run, make_checkpoint(step), {"metrics": {"loss": 1 / step}})
    return run


def save_step(run, step, *, start, newest=2):
    """Writes one checkpoint as a run does; returns what that failed with."""
    manager = CheckpointManager(
        run, RetentionPolicy(newest=newest), before=lambda: None, start=start
    )
    manager.save(make_checkpoint(step), {})
    assert manager.wait(120)
    return manager.take_error()


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_cut_short_is_noticed(tmp_path, file):
    run = write_two(tmp_path)
    path = tmp_path / "checkpoints" / "step-00000002" / file
    whole = path.read_bytes()
    for size in {0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.warns(UserWarning, match="passed over: .*step-00000002"):
            newest = read_newest_checkpoint(run)
        assert newest.step == 1
        assert_is_whole(newest)


@pytest.mark.parametrize("file", FILES)
def test_flipped_bits_are_noticed(tmp_path, file):
    """Only the spaces of a manifest may become others, which changes nothing."""
    run = write_two(tmp_path)
    path = tmp_path / "checkpoints" / "step-00000002" / file
    whole = path.read_bytes()
    rng = np.random.default_rng(len(file))
    places = rng.integers(0, len(whole), 200).tolist() + list(range(min(len(whole), 400)))
    expected = read_metrics(run)
    num_unnoticed = 0
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert_is_whole(read_checkpoint(run, "step-00000002"))
        except DamagedCheckpointError:
            continue
        num_unnoticed += 1
        assert bytes(whole[place : place + 1]).isspace()
        assert read_metrics(run) == expected
    assert num_unnoticed == 0 or file == "manifest.json"


def test_a_checkpoint_under_another_name_is_not_taken_for_it(tmp_path):
    run = write_two(tmp_path)
    (tmp_path / "checkpoints" / "step-00000002").rename(tmp_path / "checkpoints" / "step-00000007")
    with pytest.raises(DamagedCheckpointError, match="of another step"):
        read_checkpoint(run, "step-00000007")


def assert_still_good(run, step=2):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        newest = read_newest_checkpoint(run)
    assert newest is not None
    assert newest.step == step
    assert_is_whole(newest)


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


def test_a_first_checkpoint_that_a_store_has_in_part_is_none_and_a_damaged_one_is_refused(
    object_store,
):
    make_bucket("parts", object_store)
    run = open_folder(make_uri("parts/run", object_store))
    with Way(object_store, may_pass=lambda line: b"state.json" not in line) as way:
        cut = open_folder(make_uri("parts/run", way.address))
        with pytest.raises(OSError, match="parts"):
            write_checkpoint(cut, make_checkpoint(1), {})
    assert run.names("checkpoints/step-00000001") == ["tensors.safetensors"]
    with pytest.warns(UserWarning, match="step-00000001 was not finished"):
        assert read_newest_checkpoint(run) is None
    write_checkpoint(run, make_checkpoint(2), {})
    assert_still_good(run, 2)
    run.remove("checkpoints/step-00000002/manifest.json")
    with pytest.raises(UserError, match=r"step-00000002/manifest.json.*step-00000001 was not fin"):
        read_newest_checkpoint(run)


def test_a_store_that_cannot_be_asked_is_not_taken_for_an_empty_one(object_store):
    make_bucket("gone", object_store)
    write_checkpoint(open_folder(make_uri("gone/run", object_store)), make_checkpoint(1), {})
    with Way(object_store) as way:
        run = open_folder(make_uri("gone/run", way.address))
        assert_still_good(run, 1)
        way.is_cut = True
        with pytest.raises(OSError, match=r"gone|run"):
            read_newest_checkpoint(run)


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
