"""Copies on a real disk: whole or not there, bounded, and never a reason for a run to end."""

import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.file_cache import FileCache

PLENTY = 10**9


def content_of(name, num_bytes=1000):
    return name.encode() * (num_bytes // len(name))


def fill(cache, names, num_bytes=1000):
    for name in names:
        cache.write(name, content_of(name, num_bytes))


def names_there(folder):
    return sorted(path.name for path in folder.iterdir())


def read(cache, name):
    found = cache.read(name)
    return None if found is None else found.to_pybytes()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "above" / "copies"


def test_what_one_cache_has_written_another_reads(folder):
    first, second = (FileCache(str(folder), max_bytes=PLENTY) for _ in range(2))
    fill(first, "ab")
    assert [read(second, name) for name in "abc"] == [content_of("a"), content_of("b"), None]
    assert second.counts == {"found": 2, "missing": 1}
    assert not first.counts
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())  # As in the store.


def test_an_empty_content_is_one(folder):
    cache = FileCache(str(folder), max_bytes=PLENTY)
    cache.write("none", b"")
    assert read(cache, "none") == b""


def cut_short(path):
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"\0")


def flip_a_bit(path):
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2] ^= 1
    path.write_bytes(stored)


@pytest.mark.parametrize(
    "spoil",
    [
        cut_short,
        lengthen,
        flip_a_bit,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PAR1 of another program"),
        lambda path: shutil.copy(min(p for p in path.parent.iterdir() if p != path), path),
    ],
    ids=["cut", "longer", "bit", "empty", "foreign", "another"],
)
def test_a_copy_that_is_not_what_was_written_is_not_read(folder, spoil):
    cache = FileCache(str(folder), max_bytes=PLENTY)
    fill(cache, "a")
    (path,) = folder.iterdir()
    fill(cache, "b")
    spoil(path)
    assert read(cache, "a") is None
    assert cache.counts == {"missing": 1, "damaged": 1}
    fill(cache, "a")
    assert read(cache, "a") == content_of("a")


def test_what_was_used_the_longest_ago_goes_first(folder):
    cache = FileCache(str(folder), max_bytes=5000)
    fill(cache, "abcd")
    assert read(cache, "a") is not None
    fill(cache, "e")  # Over fifteen sixteenths: down to seven eighths.
    found = {name for name in "abcde" if read(cache, name)}
    assert found == {"a", "c", "d", "e"}


def num_bytes_in(folder):
    total = 0
    for path in folder.iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # Removed meanwhile.
            continue
    return total


def test_a_folder_never_stays_above_its_bound_whoever_writes(folder):
    caches = [FileCache(str(folder), max_bytes=20_000) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for number in range(4):
            names = [f"{number}-{part}" for part in range(50)]
            pool.submit(fill, caches[number], names, 1500)
    assert 10_000 < num_bytes_in(folder) <= 20_000
    assert not any(cache.counts["not_kept"] for cache in caches)


def test_a_smaller_bound_holds_from_the_beginning(folder):
    fill(FileCache(str(folder), max_bytes=PLENTY), "abcdefgh")
    FileCache(str(folder), max_bytes=4000)
    assert num_bytes_in(folder) <= 4000


def test_files_of_others_are_left_alone(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("x" * 9000)
    cache = FileCache(str(folder), max_bytes=3000)
    fill(cache, "abcdef")
    assert (folder / "thesis.txt").exists()
    assert read(cache, "f") is not None


def test_an_open_copy_stays_readable_when_it_is_removed(folder):
    cache = FileCache(str(folder), max_bytes=3000)
    fill(cache, "a")
    (path,) = folder.iterdir()
    with path.open("rb") as file:
        fill(cache, "bcde")
        assert not path.exists()
        assert content_of("a") in file.read()


KILLED = """
import os, sys
from sharedlayers_dist.storage.file_cache import FileCache
os.replace = lambda *names: os._exit(9)
FileCache(sys.argv[1], max_bytes=10**9).write("a", b"content")
"""


def test_a_writer_that_is_killed_leaves_nothing_that_counts(folder):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder)], timeout=60)
    assert killed.returncode == 9
    (left,) = folder.iterdir()
    assert left.name.endswith(".partial")
    cache = FileCache(str(folder), max_bytes=3000)
    assert read(cache, "a") is None
    assert cache.counts == {"missing": 1}
    fill(cache, "bcde")
    assert left.exists()  # Its process may be at it.
    os.utime(left, (time.time() - 7200,) * 2)
    fill(cache, "fg")
    assert not left.exists()


@contextmanager
def files_of_at_most(num_bytes):
    """The system's own refusal to write, as of a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_said_once_and_ends_nothing(folder):
    cache = FileCache(str(folder), max_bytes=PLENTY)
    fill(cache, "a")
    with files_of_at_most(500), pytest.warns(UserWarning, match=r"keeps less.*File too") as told:
        fill(cache, "bcd")
    assert len(told) == 1
    assert cache.counts == {"not_kept": 3}
    assert len(names_there(folder)) == 1
    assert [read(cache, name) for name in "ab"] == [content_of("a"), None]
    fill(cache, "b")  # There is room again.
    assert read(cache, "b") == content_of("b")


def test_a_folder_that_goes_meanwhile_ends_nothing(folder):
    cache = FileCache(str(folder), max_bytes=PLENTY)
    shutil.rmtree(folder)
    with pytest.warns(UserWarning, match="No such file or directory"):
        fill(cache, "a")
    assert read(cache, "a") is None


def test_what_is_larger_than_the_bound_drives_nothing_out(folder):
    cache = FileCache(str(folder), max_bytes=2000)
    fill(cache, "a")
    with pytest.warns(UserWarning, match="It has 5,000 bytes"):
        fill(cache, "b", 5000)
    assert read(cache, "a") == content_of("a")


@pytest.mark.parametrize("place", ["file/copies", "file"])
def test_a_folder_that_cannot_be_one_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"written to\. Received: data_cache='.*Name another"):
        FileCache(str(tmp_path / place), max_bytes=PLENTY)


def write_and_read(folder, seconds):
    cache = FileCache(folder, max_bytes=30_000)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name in "abcdefgh":
            assert read(cache, name) in (None, content_of(name, 9000))
            fill(cache, name, 9000)
    assert cache.counts.keys() == {"found", "missing"}


def test_processes_that_write_and_remove_the_same_read_whole_copies(folder):
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=write_and_read, args=(str(folder), 1.0)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert num_bytes_in(folder) <= 30_000
