"""Preemption and Ctrl-C: a signal asks for an end after the next step."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75
"""Of a run that was asked to stop and saved itself: EX_TEMPFAIL, try again later."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class RunInterruptedError(Exception):
    """The run was asked to stop, has saved itself, and can be resumed."""

    raised_on_all_ranks = True


class RunMovedError(Exception):
    """The run has saved itself, and is to go on with other processes.

    Args:
        step: The step after which it was saved.
    """

    raised_on_all_ranks = True

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step

    def __str__(self) -> str:
        return f"The run has saved itself after step {self.step} and goes on with other processes."


class StopRequest:
    """Whether this process was asked to stop.

    Args:
        is_to_move: Whether the run is to go on with other processes; asked before each step.
    """

    def __init__(self, is_to_move: Callable[[], bool] = lambda: False) -> None:
        self.is_set = False
        self.is_to_move = is_to_move

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        signal.signal(number, signal.SIG_DFL)  # A second one ends the process at once.


@contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Turns SIGTERM and SIGINT into a request while the block runs; the second of a kind ends all.

    Only a process's main thread can listen; elsewhere the request never comes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    with _leaving_at_second():
        before = {number: signal.signal(number, request._handle) for number in _SIGNALS}
        try:
            yield request
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _leaving_at_second() -> Iterator[None]:
    """Ends the process at the second signal of a kind, whatever its main thread does.

    That alone runs Python's handlers, and not before it comes back from TensorFlow, which may wait
    there for data or for another rank. The signals' numbers come through a socket at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watch = threading.Thread(target=_watch, args=(reader,), name="sharedlayers-stop", daemon=True)
    watch.start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        watch.join()
        reader.close()


def _watch(reader: socket.socket) -> None:
    come: set[int] = set()
    while received := reader.recv(1):
        number = received[0]
        if number in come:
            os._exit(128 + number)  # What a shell says of a process that the signal has ended.
        if number in _SIGNALS:
            come.add(number)
