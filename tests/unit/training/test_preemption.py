"""Requests to stop, sent to real processes."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from sharedlayers_dist.training.preemption import listen_for_stop
from tests.distributed.launcher import REPOSITORY

CODE = """
import hashlib, threading
from sharedlayers_dist.training.preemption import listen_for_stop
with listen_for_stop():
    threading.Timer(0.3, print, ["ready"], {"flush": True}).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # Many minutes that no handler interrupts.
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_a_process_that_is_busy_outside_of_python(number):
    command = [sys.executable, "-c", CODE]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(number)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(number)
            # Had it come back to Python for the first one, the second would kill it.
            assert process.wait(60) in (128 + number, -number)
        finally:
            process.kill()


def test_a_request_is_heard_and_the_handlers_before_come_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with listen_for_stop() as request:
        assert not request.is_set
        signal.raise_signal(signal.SIGTERM)
        assert request.is_set
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert "sharedlayers-stop" not in [thread.name for thread in threading.enumerate()]


def test_signals_of_both_kinds_are_one_request():
    with listen_for_stop() as request:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.2)  # Time enough to end this process.
        assert request.is_set
