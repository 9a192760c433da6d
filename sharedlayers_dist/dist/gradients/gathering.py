"""`gather`: the rows of all ranks in one tensor, with the gradient of the loss over all of them."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collective_timing import CollectiveTimer
from sharedlayers_dist.dist.gradients.sample_counts import current_gradient_weight


def gather(x: Any) -> tf.Tensor:
    """Returns the rows of all ranks end to end, in the order of ranks: `(B_r, ...) -> (B, ...)`.

    Ranks may have any number of rows, zero too. All of them call it, as often, in the same step;
    shapes after the first dimension are the same everywhere.

    The gradient is that of the loss which the reduction of gradients makes of the ranks' losses:
    their mean, weighted by each rank's samples where `prepare` or `local_batch` has said how many
    it has, and evenly otherwise. So each rank may compute the whole loss of the global batch from
    what it has gathered, or its own rows' part of it; either way the gradients of the weights are
    those of one process that has all rows. (Horovod's own `allgather` adds up what the ranks hand
    back, which is right for neither once they are averaged.) With `op=dist.Sum` it is the gradient
    of the sum of the ranks' losses, each of which is to be its own rows' part then.

    Args:
        x: A tensor with a first dimension. Integers and booleans have no gradient.

    Returns:
        Of the same dtype. With one rank, `x`.

    Raises:
        RuntimeError: if several ranks were launched and `init` has not been called.

    Example:
        >>> encodings = tf.constant([[1.0, 0.0], [0.0, 1.0]])
        >>> gather(encodings).shape  # This is one process: nobody has further rows.
        TensorShape([2, 2])
    """
    x = tf.convert_to_tensor(x)
    if runtime.size() == 1:
        return x
    return RowsOfRanks(tf.shape(x)[0], current_gradient_weight()).gather(x)


class RowsOfRanks:
    """How many rows each rank has in a step, and how much they count; exchanged when it is made.

    Args:
        rows: This rank's number of rows, a scalar.
        samples: How much this rank's gradients count in their mean, a scalar; None for the same on
            all ranks.
        is_same_loss: Whether all ranks compute the same loss of what is gathered. Then they have
            the same gradients already, and exchange none.
    """

    def __init__(self, rows: Any, samples: Any, *, is_same_loss: bool = False) -> None:
        rank = runtime.rank()
        self._is_same_loss = is_same_loss
        counts = tf.cast(tf.stack([tf.cast(rows, tf.float64), _as_weight(samples)]), tf.float64)
        counts = _exchange([counts[tf.newaxis] + _zero()])  # Never constant: see `_zero`.
        rows_of_rank = tf.cast(counts[:, 0], tf.int32)
        self._begin = tf.reduce_sum(rows_of_rank[:rank])
        self._rows = rows_of_rank[rank]
        self._samples = counts[rank, 1]
        self._all_samples = tf.reduce_sum(counts[:, 1])

    def gather(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the rows of all ranks; see the function `gather`."""
        if not x.dtype.is_floating:
            return _gather_values(x)

        @tf.custom_gradient
        def gather_differentiable(own: tf.Tensor) -> Any:
            return _gather_values(own), self._gradient_of_own

        return gather_differentiable(x)

    def _gradient_of_own(self, gradient: Any) -> tf.Tensor:
        """The gradient by this rank's rows, from that by the rows of all ranks."""
        gradient = tf.convert_to_tensor(gradient)
        samples = tf.cast(self._samples, gradient.dtype)
        if self._is_same_loss:
            own = self._own_rows(gradient) * tf.cast(self._all_samples, gradient.dtype)
        else:
            # A rank without samples counts for nothing, even where its gradient is not finite.
            own = self._own_rows(_add_up(tf.math.multiply_no_nan(gradient, samples)))
        return tf.math.divide_no_nan(own, samples)  # The reduction will multiply by them.

    def _own_rows(self, x: tf.Tensor) -> tf.Tensor:
        return x[self._begin : self._begin + self._rows]


def _as_weight(samples: Any) -> tf.Tensor:
    return tf.constant(1.0, tf.float64) if samples is None else tf.cast(samples, tf.float64)


def _gather_values(x: tf.Tensor) -> tf.Tensor:
    if x.dtype in (tf.bfloat16, tf.bool):  # Which Horovod has no such operation for.
        wide = tf.float32 if x.dtype == tf.bfloat16 else tf.uint8
        return tf.cast(_exchange([tf.cast(x, wide)]), x.dtype)
    return _exchange([x])


def _exchange(parts: list[tf.Tensor]) -> tf.Tensor:
    horovod = runtime.horovod_module()
    return _clock().count(parts, lambda: [horovod.allgather(parts[0])])[0]


def _add_up(x: tf.Tensor) -> tf.Tensor:
    horovod = runtime.horovod_module()
    wide = tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x
    total = _clock().count([wide], lambda: [horovod.allreduce(wide, op=horovod.Sum)])[0]
    return tf.cast(total, x.dtype)


@functools.cache
def _clock() -> CollectiveTimer:
    return CollectiveTimer()


def _zero() -> tf.Tensor:
    """A zero that TensorFlow does not know to be one.

    Horovod's operations are not marked as stateful, so one with constant input would be evaluated
    while the graph is optimized, at another time than on other ranks.
    """
    return _zero_variable().read_value()


@functools.cache
def _zero_variable() -> tf.Variable:
    with tf.init_scope(), tf.device("CPU:0"):
        return tf.Variable(0.0, dtype=tf.float64, trainable=False, name="zero")
