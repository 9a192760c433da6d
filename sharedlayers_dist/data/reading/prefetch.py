"""Iterating in a background thread, a bounded number of items ahead of the consumer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class _End:
    """The last thing in the queue: why there is nothing more."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class PrefetchIterator(Iterator[T], Generic[T]):
    """Runs a generator in a thread of its own and gives what it yields, in order.

    The thread ends when the generator does, and promptly when the iterator is closed, dropped, or
    left as a context manager. What the generator raises is raised here, after what it yielded
    before.

    Args:
        make: Makes the generator; called and closed in the thread. It must not refer to this
            iterator, or dropping that would not end the thread.
        depth: Items that wait for the consumer at most, 1 or more; one more is in the making.
        on_wait: Is told how long the consumer waited for each item.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self,
        make: Callable[[], Generator[T, None, None]],
        *,
        depth: int,
        on_wait: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._queue: SimpleQueue[T | _End] = SimpleQueue()
        self._slots = threading.Semaphore(depth)
        self._stopped = threading.Event()
        self._ended = False
        self._on_wait = on_wait
        self._clock = clock
        self._thread = threading.Thread(
            target=_produce,
            args=(make, self._queue, self._slots, self._stopped),
            name="sharedlayers-reader",
            daemon=True,
        )
        self._thread.start()

    def __next__(self) -> T:
        if self._ended:
            raise StopIteration
        begin = self._clock()
        item = self._queue.get()
        self._on_wait(self._clock() - begin)
        if isinstance(item, _End):
            self.close()
            if item.error is not None:
                raise item.error
            raise StopIteration
        self._slots.release()
        return item

    def close(self) -> None:
        """Ends the thread; what is under way is finished, and nothing more begun."""
        self._ended = True
        self._stopped.set()
        self._slots.release()
        if threading.current_thread() is not self._thread:  # The collector may run anywhere.
            self._thread.join()

    def __enter__(self) -> PrefetchIterator[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _produce(
    make: Callable[[], Generator[T, None, None]],
    queue: SimpleQueue[T | _End],
    slots: threading.Semaphore,
    stopped: threading.Event,
) -> None:
    error: BaseException | None = None
    try:
        items = make()
        try:
            while True:
                slots.acquire()
                if stopped.is_set():
                    break
                queue.put(next(items))
        except StopIteration:
            pass
        finally:
            items.close()
    except BaseException as e:  # Whatever it is, the consumer must hear of it, or it waits forever.
        error = e
    queue.put(_End(error))
