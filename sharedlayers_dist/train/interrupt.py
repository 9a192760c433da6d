"""Preemption and Ctrl-C: a signal asks for an end after the step that is under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75
"""Of a run that was asked to stop and saved itself: EX_TEMPFAIL, try again later."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class RunInterruptedError(Exception):
    """The run was asked to stop, has saved itself, and can be resumed."""

    is_agreed = True


class StopRequest:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.is_set = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        signal.signal(number, signal.SIG_DFL)  # A second one ends the process at once.


@contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Turns SIGTERM and SIGINT into a request while the block runs.

    Only a process's main thread can listen; elsewhere the request never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
