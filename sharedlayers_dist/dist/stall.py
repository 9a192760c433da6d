"""Ends the waiting for a rank that does not come."""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sharedlayers_dist.dist.collective_timing import exchanges_in_graphs, forget_exchanges_in_graphs

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_CLOSE = 5.0


class StallWatch:
    """Calls for help when this rank waits for the others for too long.

    The time counts from having this rank's part of an exchange to having the result, so that a
    step may take as long as it must, and the first may be compiled for long.

    Horovod has a limit of its own, which does not work over Gloo: `GlooController` in 0.28.1
    reserves its list of ranks without giving it a size, so the stall inspector looks at none. A
    rank that dies is noticed all the same, by its closed connections; one that hangs is not.

    Args:
        limit_seconds: How long an exchange may take.
        end_waiting: Called once, from a thread of its own, when the limit has passed; it must make
            the operations that are waited for fail.
    """

    def __init__(self, limit_seconds: float, end_waiting: Callable[[], None]) -> None:
        self._limit = limit_seconds
        self._end_waiting = end_waiting
        self._outside = 0.0
        self._has_ended = False
        self._closed = threading.Event()
        forget_exchanges_in_graphs()  # Those of an earlier run that failed.
        self._thread = threading.Thread(target=self._look, name="stall watch", daemon=True)
        self._thread.start()
        # A thread within TensorFlow must not outlive the interpreter.
        atexit.register(self.close)

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()
        self._thread.join(_SECONDS_TO_CLOSE)  # It may be ending the waiting, which may hang.
        atexit.unregister(self.close)

    @contextmanager
    def watch_exchange(self) -> Iterator[None]:
        """Watches an exchange outside of any graph; raises as `explain` does."""
        self._outside = time.monotonic()
        try:
            with self.explain():
                yield
        finally:
            self._outside = 0.0

    @contextmanager
    def explain(self) -> Iterator[None]:
        """Says why something within failed, if the waiting for a rank was ended.

        Raises:
            RuntimeError: if the limit passed.
        """
        try:
            yield
        except Exception as e:
            forget_exchanges_in_graphs()
            if self._has_ended:
                raise RuntimeError(self._text) from e
            raise

    @property
    def _text(self) -> str:
        return (
            "A rank did not come where the others wait for it. Received: "
            f"{self._limit:g} seconds of waiting. Look at the output of the other ranks for one "
            "that hangs, that has fewer steps than the others, or that a callback has ended alone "
            "(EarlyStopping, TerminateOnNaN, one of your own that sets stop_training: use "
            "dist.AgreedEarlyStopping, or decide on rank zero and tell the others). If what one "
            "rank does alone may take longer, raise init(stall_limit_seconds=...)."
        )

    def _look(self) -> None:
        seen: tuple[float, ...] = ()
        since = 0.0
        while not self._closed.wait(_SECONDS_BETWEEN_LOOKS):
            began = (self._outside, *exchanges_in_graphs())
            if began != seen or not any(began):
                seen, since = began, time.monotonic()
            elif time.monotonic() - since > self._limit:
                self._has_ended = True
                # A training loop of one's own gets only Horovod's error.
                print(self._text, file=sys.stderr, flush=True)
                self._end_waiting()
                return
