"""Reads that may take long, but not for ever.

A network drive that has gone, or a pipe in a file's place, blocks a read without an error. The
thread that it blocks cannot be ended. So reads run in daemon threads, which no process waits for
when it ends, and whoever needs the result waits for a limited time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar, cast

T = TypeVar("T")

READ_LIMIT_SECONDS = 90.0
"""Less than the 100 seconds after which the other ranks give up a rank that does not come: its own
error, which names the file, must be there before."""
_SLOWEST_BYTES_PER_SECOND = 10e6


class ReadPool:
    """A few daemon threads that read.

    Args:
        num_threads: Reads at a time.
        name: Of the threads.

    Example:
        >>> with ReadPool(2, name="example") as pool:
        ...     wait_for_read(pool.submit(len, "abc"), what="three letters")
        3
    """

    def __init__(self, num_threads: int, *, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(
                target=_work, args=(self._tasks, self._closed), name=f"{name}-{i}", daemon=True
            )
            for i in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, read: Callable[..., T], *args: Any) -> Future[T]:
        """Has one of the threads call `read(*args)`."""
        future: Future[T] = Future()
        self._tasks.put((future, lambda: read(*args)))
        return future

    def close(self, *, wait_seconds: float = READ_LIMIT_SECONDS) -> None:
        """Drops what has not begun, and waits for the reads under way, but not for ever."""
        self._closed.set()
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + wait_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> ReadPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        is_blocked = kind is not None and issubclass(kind, ReadTimeoutError)
        self.close(wait_seconds=0.0 if is_blocked else READ_LIMIT_SECONDS)


class ReadTimeoutError(RuntimeError):
    """A read that took longer than its limit."""


def wait_for_read(future: Future[T], *, what: str, limit_seconds: float = READ_LIMIT_SECONDS) -> T:
    """The result of a read.

    Args:
        future: The read.
        what: Names whose read it is and what is read.
        limit_seconds: How long to wait for it from now on.

    Raises:
        ReadTimeoutError: when the time is over.
    """
    try:
        return future.result(limit_seconds)
    except TimeoutError as error:
        if future.done():  # The read itself failed with it.
            raise
        raise ReadTimeoutError(
            f"A read must not take longer than {limit_seconds:g} seconds. Received: {what}, which "
            "has not come by then. Look whether the drive or store that it lies on answers."
        ) from error


def read_bounded(
    read: Callable[..., T],
    *args: Any,
    what: str,
    limit_seconds: float = READ_LIMIT_SECONDS,
) -> T:
    """Calls `read(*args)`, and does not wait for it for ever; see `wait_for_read`.

    Example:
        >>> read_bounded(len, "abc", what="three letters")
        3
    """
    with ReadPool(1, name="sharedlayers-read") as pool:
        return wait_for_read(pool.submit(read, *args), what=what, limit_seconds=limit_seconds)


def iterate_bounded(
    items: Iterable[T], *, what: str, limit_seconds: float = READ_LIMIT_SECONDS
) -> Iterator[T]:
    """Yields `items`, and waits for none of them for ever: the limit is of each.

    Example:
        >>> list(iterate_bounded("abc", what="three letters"))
        ['a', 'b', 'c']
    """
    iterator, end = iter(items), object()
    with ReadPool(1, name="sharedlayers-list") as pool:
        while True:
            future = pool.submit(next, iterator, end)
            item = wait_for_read(future, what=what, limit_seconds=limit_seconds)
            if item is end:
                return
            yield cast(T, item)


def read_file_bounded(path: Path, *, limit_seconds: float = READ_LIMIT_SECONDS) -> bytes:
    """The contents of a file on a disk; the limit grows with its size, by 10 MB a second.

    Raises:
        ReadTimeoutError: when the time is over.
        OSError: as the system has it.
    """
    what = str(path)
    size = read_bounded(lambda: path.stat().st_size, what=what, limit_seconds=limit_seconds)
    return read_bounded(
        path.read_bytes, what=what, limit_seconds=limit_seconds + size / _SLOWEST_BYTES_PER_SECOND
    )


def _work(
    tasks: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None], closed: threading.Event
) -> None:
    while (task := tasks.get()) is not None:
        future, read = task
        if closed.is_set():
            future.cancel()
        elif future.set_running_or_notify_cancel():
            try:
                future.set_result(read())
            except BaseException as error:  # Whoever waits for it must hear of it.
                future.set_exception(error)
        del task, future, read
