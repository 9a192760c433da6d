"""Ends the waiting for a rank that does not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_BETWEEN_LOOKS = 0.5


class StallWatch:
    """Calls for help when a step takes too long.

    Horovod has a limit of its own, which does not work over Gloo: `GlooController` in 0.28.1
    reserves its list of ranks without giving it a size, so the stall inspector looks at none. A
    rank that dies is noticed all the same, by its closed connections; one that hangs is not.

    Args:
        limit_seconds: How long a step may take.
        end_waiting: Called once, from a thread of its own, when the limit has passed; it must make
            the operations that are waited for fail.
    """

    def __init__(self, limit_seconds: float, end_waiting: Callable[[], None]) -> None:
        self._limit = limit_seconds
        self._end_waiting = end_waiting
        self._since: float | None = None
        self._has_ended = False
        threading.Thread(target=self._look, name="stall watch", daemon=True).start()

    @contextmanager
    def watch_step(self) -> Iterator[None]:
        """Watches what is done within.

        Raises:
            RuntimeError: if the limit passed and the waiting was ended.
        """
        self._since = time.monotonic()
        try:
            yield
        except Exception as e:
            if self._has_ended:
                raise RuntimeError(
                    "A rank did not take part in a step. Received: "
                    f"{self._limit:g} seconds of waiting. Look at the output of the other ranks "
                    "for one that hangs. If a step may take longer, raise "
                    "init(stall_limit_seconds=...)."
                ) from e
            raise
        finally:
            self._since = None

    def _look(self) -> None:
        while not self._has_ended:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            since = self._since
            if since is not None and time.monotonic() - since > self._limit:
                self._has_ended = True
                self._end_waiting()
