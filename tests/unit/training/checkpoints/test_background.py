import subprocess
import sys
import threading

import pytest

from sharedlayers_dist.training.checkpoints.background import BackgroundWriter


def test_work_goes_on_beside_and_one_at_a_time():
    writer, may_end, done = BackgroundWriter(), threading.Event(), []
    assert not writer.is_busy
    assert writer.wait()

    def work():
        may_end.wait(30)
        done.append(threading.current_thread().name)

    writer.start(work)
    assert writer.is_busy
    assert not writer.wait(0.01)
    with pytest.raises(RuntimeError, match="one piece of work at a time"):
        writer.start(work)
    may_end.set()
    assert writer.wait(30)
    assert done == ["sharedlayers-checkpoint"]
    writer.start(work)
    assert writer.wait(30)
    assert len(done) == 2


def test_an_error_is_handed_on_once():
    writer, may_end = BackgroundWriter(), threading.Event()

    def fail():
        may_end.wait(30)
        raise OSError("the disk is full")

    writer.start(fail)
    assert writer.take_error() is None
    may_end.set()
    assert writer.wait(30)
    assert str(writer.take_error()) == "the disk is full"
    assert writer.take_error() is None
    writer.start(lambda: None)
    assert writer.wait(30)
    assert writer.take_error() is None


def test_a_process_that_ends_does_not_wait_for_storage_that_hangs():
    """As that of a run that fails, with its last checkpoint under way."""
    code = (
        "import time\n"
        "from sharedlayers_dist.training.checkpoints.background import BackgroundWriter\n"
        "BackgroundWriter().start(lambda: time.sleep(600))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
