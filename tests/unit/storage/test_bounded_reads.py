"""What does not answer ends as an error that names it."""

import os
import time

import pytest

from sharedlayers_dist.storage.bounded_reads import (
    ReadTimeoutError,
    iterate_bounded,
    read_file_bounded,
)
from sharedlayers_dist.storage.folder import LocalFolder


def test_a_file_that_does_not_come_is_named(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(ReadTimeoutError, match=r"0.2 seconds. Received: .*manifest.json, which"):
        read_file_bounded(tmp_path / "manifest.json", limit_seconds=0.2)


def test_a_file_of_a_run_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    """A pipe in its place is opened only when someone writes to it."""
    os.mkfifo(tmp_path / "manifest.json")
    monkeypatch.setattr(read_file_bounded, "__kwdefaults__", {"limit_seconds": 0.2})
    with pytest.raises(ReadTimeoutError, match=r"Received: .*manifest.json"):
        LocalFolder(tmp_path).read("manifest.json")


def test_a_listing_that_stops_in_the_middle_ends_after_its_last_name():
    def names():
        yield "a"
        yield "b"
        time.sleep(1)
        yield "c"

    listed: list[str] = []
    with pytest.raises(ReadTimeoutError, match="Received: the folder, which"):
        listed.extend(iterate_bounded(names(), what="the folder", limit_seconds=0.2))
    assert listed == ["a", "b"]


def test_the_error_of_a_listing_is_its_own(tmp_path):
    def names():
        yield "a"
        raise PermissionError("no")

    with pytest.raises(PermissionError, match="no"):
        list(iterate_bounded(names(), what="the folder"))
