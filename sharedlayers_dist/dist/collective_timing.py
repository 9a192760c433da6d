"""The seconds that this rank has been in collectives: waiting for others, and exchanging."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf


class CollectiveTimer:
    """Adds up the seconds from having all of this rank's inputs to having all results.

    They are taken within the graph, and kept in variables that are no part of any model.
    """

    def __init__(self) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            self._seconds = tf.Variable(0.0, trainable=False, dtype=tf.float64, name="seconds")
            self._began = tf.Variable(0.0, trainable=False, dtype=tf.float64, name="began")
        _graph_clocks.append(self)

    @property
    def seconds(self) -> float:
        """The sum so far."""
        return float(self._seconds.numpy())

    @property
    def began(self) -> float:
        """When the exchange began that is under way; 0 if none is."""
        return float(self._began.numpy())

    def forget(self) -> None:
        """Forgets an exchange that failed."""
        self._began.assign(0.0)

    def count(self, inputs: Sequence[Any], exchange: Callable[[], list[Any]]) -> list[Any]:
        """Returns what `exchange` builds from `inputs`; each may be a tensor, slices or None."""
        with tf.control_dependencies(_tensors(inputs)):
            began = tf.timestamp()
            self._began.assign(began)
        results = exchange()
        with tf.control_dependencies(_tensors(results)):
            self._seconds.assign_add(tf.timestamp() - began)
            self._began.assign(0.0)
        return results


_graph_clocks: list[CollectiveTimer] = []
_seconds_outside = 0.0


@contextmanager
def count_outside() -> Iterator[None]:
    """Counts what is done within, outside of any graph."""
    global _seconds_outside
    began = time.perf_counter()
    try:
        yield
    finally:
        _seconds_outside += time.perf_counter() - began


def exchanges_in_graphs() -> list[float]:
    """Returns for each place that exchanges when what is under way there began; 0 for nothing."""
    return [clock.began for clock in _graph_clocks]


def forget_exchanges_in_graphs() -> None:
    """Forgets exchanges that failed, which will not say that they have ended."""
    for clock in _graph_clocks:
        clock.forget()


def collective_seconds() -> float:
    """Returns the seconds that this rank has spent in collectives since the process began.

    In a step they count from the moment that the rank has its own gradients until it has those of
    all ranks, and likewise for the statistics of SyncBatchNormalization; outside of steps, while
    values are exchanged. So what one rank is late by, the others have. On a GPU, where gradients
    are ready for TensorFlow as soon as their computation has been queued, what is left of the
    backward pass counts, too. With one rank it is 0.
    """
    return _seconds_outside + sum(clock.seconds for clock in _graph_clocks)


def _tensors(values: Sequence[Any]) -> list[tf.Tensor]:
    parts = tf.nest.flatten(list(values), expand_composites=True)
    return [part for part in parts if part is not None]
