"""One writer for a run folder: real processes, real kills, a disk and a real S3 server."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage import run_lock
from sharedlayers_dist.storage.folder import open_folder
from sharedlayers_dist.storage.holder import Holder
from sharedlayers_dist.storage.run_lock import (
    LOCK,
    RunLock,
    RunLockLostError,
    lock_run,
    require_unlocked,
)
from tests.object_store import Way, make_bucket, make_uri

_numbers = itertools.count()
HOLD = """
import sys, time
from sharedlayers_dist.storage import run_lock
from sharedlayers_dist.storage.folder import open_folder
run_lock.SECONDS_TO_RENEW = run_lock.SECONDS_TO_SETTLE = 0.2
lock = run_lock.lock_run(open_folder(sys.argv[1]), owner=sys.argv[2])
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(run_lock, "SECONDS_TO_SETTLE", 0.2)
    monkeypatch.setattr(run_lock, "SECONDS_TO_RENEW", 0.2)
    monkeypatch.setattr(run_lock, "SECONDS_TO_EXPIRE", 3.0)
    monkeypatch.setattr(run_lock, "_SECONDS_BETWEEN_LOOKS", 0.1)


@pytest.fixture
def store_uri(object_store):
    make_bucket("locks", object_store)
    return make_uri(f"locks/run-{next(_numbers)}", object_store)


@pytest.fixture(params=["disk", "S3"])
def uri(request, tmp_path):
    if request.param == "disk":
        return str(tmp_path / "a" / "run")
    return request.getfixturevalue("store_uri")


@pytest.fixture
def hold():
    """Starts a process that holds the lock of a folder until its input ends."""
    processes = []

    def start(uri, owner=""):
        command = [sys.executable, "-c", HOLD, uri, owner]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_until_the_first_has_ended(uri, hold):
    folder, first = open_folder(uri), hold(uri)
    for refuse in (lock_run, require_unlocked):
        with pytest.raises(UserError, match=rf"process {first.pid} on \S+ since 20.* UTC") as no:
            refuse(folder)
        assert "Wait until it has ended, stop it, or choose another folder" in str(no.value)
    assert folder.names() == []
    first.communicate(timeout=30)
    with pytest.raises(FileNotFoundError):
        folder.read(LOCK)
    require_unlocked(folder)
    lock_run(folder).release()


def test_what_a_killed_process_leaves_locks_nothing(uri, hold):
    folder, killed = open_folder(uri), hold(uri)
    killed.send_signal(signal.SIGKILL)
    killed.wait(30)
    assert folder.read(LOCK)
    before = time.monotonic()
    lock = lock_run(folder)
    assert time.monotonic() - before < run_lock.SECONDS_TO_EXPIRE
    assert Holder.read(folder.read(LOCK)).pid == os.getpid()
    lock.require_held()
    lock.release()
    with pytest.raises(FileNotFoundError):
        folder.read(LOCK)


def test_a_process_that_is_started_in_place_of_another_waits_for_its_end_on_a_disk(tmp_path, hold):
    first = hold(str(tmp_path), "run 7")
    threading.Timer(0.5, first.kill).start()
    lock = lock_run(open_folder(str(tmp_path)), owner="run 7")
    assert first.wait(30) == -signal.SIGKILL
    lock.release()


def test_a_process_that_does_not_end_on_a_disk_is_shut_out_by_the_one_in_its_place(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(run_lock, "_SECONDS_TO_GO", 0.5)
    folder = open_folder(str(tmp_path))
    earlier = lock_run(folder, owner="run 7")
    later = lock_run(folder, owner="run 7")
    with pytest.raises(RunLockLostError, match="removed or replaced"):
        earlier.require_held()
    earlier.release()
    later.require_held()  # The earlier one has removed nothing.
    with pytest.raises(UserError, match="One run at a time"):
        lock_run(folder, owner="another run")
    later.release()


def test_a_process_that_is_started_in_place_of_another_takes_the_lease(store_uri, hold):
    folder = open_folder(store_uri)
    earlier = lock_run(folder, owner="run 7")
    later = lock_run(open_folder(store_uri), owner="run 7")
    later.require_held()
    with pytest.raises(RunLockLostError, match=f"Another process writes to .*{os.getpid()}"):
        earlier.require_held()
    earlier.release()
    later.require_held()  # The earlier one has removed nothing.
    later.release()


def write_lease(folder, **changes):
    """As a process on another machine would."""
    holder = replace(Holder.of_this_process(""), host="far", place="another system", **changes)
    folder.write(LOCK, holder.write(time.time()))
    return holder


def test_a_lease_of_another_machine_expires_when_it_is_not_renewed(store_uri):
    folder = open_folder(store_uri)
    write_lease(folder)
    before = time.monotonic()
    lock = lock_run(folder)
    assert time.monotonic() - before >= run_lock.SECONDS_TO_EXPIRE
    lock.release()


def test_a_lease_of_another_machine_that_is_renewed_is_respected(store_uri):
    folder = open_folder(store_uri)
    holder = write_lease(folder)
    threading.Timer(0.5, lambda: folder.write(LOCK, holder.write(time.time()))).start()
    with pytest.raises(UserError, match="on far since"):
        lock_run(folder)
    folder.write(LOCK, b"something else")
    lock_run(folder).release()


def test_of_two_that_take_a_lease_together_one_has_it(store_uri):
    outcomes: list[RunLock | UserError] = []

    def take():
        try:
            outcomes.append(lock_run(open_folder(store_uri)))
        except UserError as error:
            outcomes.append(error)

    run_lock.SECONDS_TO_SETTLE = 1.0
    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (lock,) = [outcome for outcome in outcomes if not isinstance(outcome, UserError)]
    assert len(outcomes) == 2
    lock.require_held()
    lock.release()


def test_a_lease_outlives_a_store_that_is_away_for_a_while(store_uri, object_store):
    with Way(object_store) as way:
        lock = lock_run(open_folder(store_uri.replace(object_store, way.address)))
        way.is_cut = True
        with pytest.raises(OSError, match="locks"):
            lock.require_held()
        time.sleep(0.5)
        way.is_cut = False
        lock.require_held()
        lock.release()
    with pytest.raises(FileNotFoundError):
        open_folder(store_uri).read(LOCK)


def test_a_lock_whose_file_was_replaced_is_lost(tmp_path):
    lock = lock_run(open_folder(str(tmp_path)))
    (tmp_path / LOCK).unlink()
    other = lock_run(open_folder(str(tmp_path)))
    with pytest.raises(RunLockLostError, match="removed or replaced"):
        lock.require_held()
    lock.release()
    other.require_held()
    other.release()


def test_a_file_system_without_locks_gets_a_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock.fcntl, "flock", _refuse_to_lock)
    folder = open_folder(str(tmp_path / "run"))
    lock = lock_run(folder)
    assert isinstance(lock, run_lock._Lease)
    with pytest.raises(UserError, match=f"process {os.getpid()} "):
        lock_run(folder)
    lock.release()
    assert list((tmp_path / "run").iterdir()) == []


def _refuse_to_lock(descriptor, operation):
    raise OSError(38, "Function not implemented")


def test_folders_that_were_made_for_a_lock_go_with_it(tmp_path):
    lock_run(open_folder(str(tmp_path / "a" / "run"))).release()
    assert not (tmp_path / "a").exists()
    folder = open_folder(str(tmp_path / "a" / "run"))
    lock = lock_run(folder)
    folder.write("config.json", b"{}")
    lock.release()
    assert folder.names() == ["config.json"]
