"""Writing beside the training: one piece of work at a time, whose failure is not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundWriter:
    """Does one piece of work at a time in a thread of its own.

    A process that ends does not wait for the thread: `wait` does. This is why it is no
    ThreadPoolExecutor: at the end of the process the interpreter joins the threads of all executors
    without a limit, and a run that fails would hang with the storage that made it fail.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def is_busy(self) -> bool:
        """Whether the last piece of work is still being done."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, work: Callable[[], None]) -> None:
        """Begins `work`; the one before must have ended (`is_busy`, `wait`)."""
        if self.is_busy:
            raise RuntimeError("A writer does one piece of work at a time. Call `wait` first.")
        self._thread = threading.Thread(
            target=self._do, args=(work,), name="sharedlayers-checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits for the last piece of work, so long at most; whether it has ended."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_busy

    def take_error(self) -> Exception | None:
        """What the last piece of work failed with, once; None while it goes on or if it did not."""
        if self.is_busy:
            return None
        error, self._error = self._error, None
        return error

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # Whatever it is, `take_error` hands it on.
            self._error = error
