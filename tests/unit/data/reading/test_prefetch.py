"""Iterating in a background thread."""

import gc
import threading
import time

import pytest

from sharedlayers_dist.data.reading.prefetch import PrefetchIterator


def count_threads():
    return sum(thread.name.startswith("sharedlayers") for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends_with_them():
    assert list(PrefetchIterator(lambda: (i * i for i in range(100)), depth=3)) == [
        i * i for i in range(100)
    ]
    assert count_threads() == 0


def test_an_ended_iterator_stays_ended():
    items = PrefetchIterator(lambda: (i for i in range(1)), depth=1)
    assert list(items) == [0]
    assert list(items) == []


@pytest.mark.parametrize("depth", [1, 4])
def test_only_so_many_items_are_made_ahead(depth):
    made = []

    def make():
        for i in range(100):
            made.append(i)
            yield i

    with PrefetchIterator(make, depth=depth) as items:
        next(items)
        deadline = time.monotonic() + 10
        while len(made) < depth + 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(made) == depth + 1


def test_an_error_reaches_the_consumer_after_what_came_before_it():
    def make():
        yield 1
        yield 2
        raise ValueError("row 3")

    items = PrefetchIterator(make, depth=5)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="row 3"):
        next(items)
    assert list(items) == []
    assert count_threads() == 0


def test_an_error_in_making_the_generator_reaches_the_consumer():
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(PrefetchIterator(fail, depth=1))
    assert count_threads() == 0


def endless():
    while True:
        yield 0


@pytest.mark.parametrize("num_taken", [0, 1, 5])
def test_the_thread_ends_when_the_iterator_is_closed(num_taken):
    closed = []

    def make():
        try:
            yield from endless()
        finally:
            closed.append(True)

    items = PrefetchIterator(make, depth=2)
    for _ in range(num_taken):
        next(items)
    items.close()
    assert count_threads() == 0
    assert closed in ([True], [] if num_taken == 0 else [True])
    items.close()


def test_the_thread_ends_when_the_iterator_is_dropped():
    items = PrefetchIterator(endless, depth=2)
    next(items)
    del items
    gc.collect()
    assert count_threads() == 0


def test_the_thread_ends_when_the_consumer_raises():
    def consume():
        with PrefetchIterator(endless, depth=2) as items:
            for _ in items:
                raise KeyError

    with pytest.raises(KeyError):
        consume()
    assert count_threads() == 0


class FakeClock:
    """Stands still until it is set; tells when it was looked at."""

    def __init__(self):
        self.now = 0.0
        self.looked_at = threading.Event()

    def __call__(self):
        now = self.now
        self.looked_at.set()
        return now


def test_the_time_spent_waiting_is_told():
    clock = FakeClock()
    waits: list[float] = []

    def make():
        for _ in range(3):
            assert clock.looked_at.wait(10)  # The consumer has begun to wait.
            clock.now += 2
            clock.looked_at.clear()
            yield

    items = PrefetchIterator(make, depth=1, on_wait=waits.append, clock=clock)
    next(items)
    assert waits == [2]
    items.close()


def test_items_that_are_there_already_cost_no_waiting():
    clock, is_made = FakeClock(), threading.Event()
    waits: list[float] = []

    def make():
        yield from range(5)
        clock.now = 7
        is_made.set()

    items = PrefetchIterator(make, depth=9, on_wait=waits.append, clock=clock)
    assert is_made.wait(10)
    assert list(items) == list(range(5))
    assert waits == [0] * 6
