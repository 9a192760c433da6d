import os

import pytest

from sharedlayers_dist.quiet import holding_back_notes


def write_as_c_does(text: str) -> None:
    os.write(2, text.encode())


def load_a_library_that_is_broken() -> None:
    with holding_back_notes():
        write_as_c_does("a note that tells why\n")
        raise ImportError("no such library")


def test_notes_are_held_back_and_what_comes_after_is_shown(capfd):
    with holding_back_notes():
        write_as_c_does("a note\n")
    write_as_c_does("after\n")
    assert capfd.readouterr().err == "after\n"


def test_notes_before_a_failure_are_shown(capfd):
    with pytest.raises(ImportError, match="no such library"):
        load_a_library_that_is_broken()
    assert capfd.readouterr().err == "a note that tells why\n"
