"""`ReplicaGuard`: stops training when the ranks' weights are no longer the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collectives import allgather_array, raise_on_all_ranks
from sharedlayers_dist.dist.gradients.optimizer import distribution_of
from sharedlayers_dist.errors import UserError

DEFAULT_EVERY = 200
"""Steps between comparisons; `python -m tests.benchmarks.binding` measures what they cost."""
_WORDS_AT_ONCE = 2**20
"""Words of a variable that are looked at at once; it bounds the extra memory."""


class ReplicaGuard(keras.callbacks.Callback):
    """Compares a checksum of weights and optimizer state over the ranks, every few steps.

    Data-parallel training rests on every rank having the same weights. If something breaks that
    (a rank that did not start from rank zero's weights, a layer that draws its own random numbers,
    a fault of memory), nothing else would say so. The trainable weights and the optimizer's state
    are compared bit by bit: after every `every` steps and at the end of training. Weights that
    are not trained, such as the moving averages of BatchNormalization, may differ and are left
    out. With one rank it does nothing.

    Args:
        every: Steps between comparisons.

    Raises:
        UserError: if `every` is less than 1.
    """

    def __init__(self, *, every: int = DEFAULT_EVERY) -> None:
        super().__init__()
        if every < 1:
            raise UserError(f"`every` must be at least 1 step. Received: every={every}.")
        self._every = every
        self._calls = 0
        self._checksums = _make_checksums()

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts to count."""
        self._calls = 0
        self._checksums = _make_checksums()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Compares if it is time; all ranks take the same steps, so they come here together."""
        self._calls += 1
        if self._calls % self._every == 0:
            _check_replicas(self.model, self._checksums)

    def on_train_end(self, logs: Any = None) -> None:
        """Compares what training ends with."""
        _check_replicas(self.model, self._checksums)


def check_replicas(model: keras.Model) -> None:
    """Compares trainable weights and optimizer state over the ranks; all ranks must call it.

    Raises:
        RuntimeError: on every rank, with the name of the first variable that differs, and which
            ranks hold which value.
    """
    _check_replicas(model, _make_checksums())


def _check_replicas(model: keras.Model, checksums: Callable[[Sequence[Any]], tf.Tensor]) -> None:
    if runtime.size() == 1:
        return
    variables = [*model.trainable_variables, *model.optimizer.variables]
    distribution = distribution_of(model.optimizer)
    ranks = distribution.ranks if distribution is not None else list(range(runtime.size()))
    own = checksums([v.value for v in variables]).numpy()
    with runtime.watch_exchange():
        sums = allgather_array(own)[ranks]
    error = _difference(sums, ranks, variables)
    if len(ranks) < runtime.size():
        raise_on_all_ranks(error)  # Another process set may have found one.
    elif error is not None:
        raise error


def _difference(
    sums: np.ndarray, ranks: Sequence[int], variables: Sequence[Any]
) -> RuntimeError | None:
    """Returns an error that names the first variable whose checksums differ, or None.

    Args:
        sums: Checksums, `(ranks, variables)`.
        ranks: Whose they are.
        variables: The variables that they are of.
    """
    differs = np.flatnonzero((sums != sums[0]).any(axis=0))
    if not differs.size:
        return None
    first = int(differs[0])
    return RuntimeError(
        "The ranks no longer hold the same weights. The first variable that differs is "
        f"{variables[first].path}. Received: {_holders(sums[:, first], ranks)}. "
        f"{differs.size} of {len(variables)} variables differ. Look for what only some ranks "
        "do to the model, and start from rank zero's state with BroadcastInitialState()."
    )


def _holders(sums: np.ndarray, ranks: Sequence[int]) -> str:
    """Says which ranks hold which value, e.g. `checksum 0x1 on ranks 0, 2; 0x5 on rank 1`."""
    parts = []
    for value in dict.fromkeys(sums.tolist()):
        holders = [str(r) for r, s in zip(ranks, sums.tolist(), strict=True) if s == value]
        noun = "rank" if len(holders) == 1 else "ranks"
        parts.append(f"{value & 0xFFFFFFFF:#010x} on {noun} {', '.join(holders)}")
    return "checksum " + "; ".join(parts)


def _make_checksums() -> Callable[[Sequence[Any]], tf.Tensor]:
    """Returns a compiled function from variables to one int32 for each, `(variables,)`.

    Unlike a sum of floating point it is the same on all devices, whatever they add up first.
    """

    @tf.function
    def checksums(variables: Sequence[tf.Variable]) -> tf.Tensor:
        return tf.stack([_checksum(variable.read_value()) for variable in variables])

    return checksums


def _checksum(values: tf.Tensor) -> tf.Tensor:
    if values.dtype in (tf.float32, tf.int32, tf.uint32, tf.float64, tf.int64, tf.uint64):
        words = tf.bitcast(values, tf.uint32)
    elif values.dtype in (tf.float16, tf.bfloat16):
        words = tf.cast(tf.bitcast(values, tf.uint16), tf.uint32)
    else:
        words = tf.cast(values, tf.uint32)
    words = tf.reshape(words, [-1])
    if words.shape[0] <= _WORDS_AT_ONCE:
        return _sum_by_place(words, 0)
    total = tf.constant(0)
    for first in tf.range(0, tf.size(words), _WORDS_AT_ONCE):
        total += _sum_by_place(words[first : first + _WORDS_AT_ONCE], first)
    return total


def _sum_by_place(words: tf.Tensor, first: Any) -> tf.Tensor:
    """Adds up words, each times an odd number for its place, so that those swapped are seen.

    The upper bits are mixed into the lower ones before: the sign alone, the uppermost bit of
    floating point, would be lost wherever an even number of signs changes.

    Args:
        words: uint32, `(words,)`.
        first: The place of the first of them.
    """
    mixed = tf.bitwise.bitwise_xor(words, tf.bitwise.right_shift(words, tf.constant(15, tf.uint32)))
    places = first + tf.range(tf.size(words))
    return tf.reduce_sum(tf.bitcast(mixed, tf.int32) * (2 * places + 1))
