"""`SyncBatchNormalization`: statistics over the batches of all ranks."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collective_timing import CollectiveTimer
from sharedlayers_dist.dist.gradients.keras_hooks import BatchNormalizationByMoments
from sharedlayers_dist.dist.gradients.sample_counts import (
    current_gradient_weight,
    current_num_samples,
)
from sharedlayers_dist.errors import UserError


class SyncBatchNormalization(BatchNormalizationByMoments):
    """Batch normalization by the mean and variance of the global batch.

    Forward and backward pass equal those of one process on the whole batch, also where ranks have
    batches of unequal size. Each call costs one small reduction forward and one backward. The
    moving averages are the same on all ranks, so rank zero's model evaluates as any other's.

    A saved model records `keras.layers.BatchNormalization`: it opens in plain Keras, and must be
    built with this class again to train on over many ranks. With one rank it is no other layer.

    The statistics are those of Ioffe and Szegedy, 2015; the ranks' variances are combined as in
    Chan, Golub and LeVeque, 1979, equation 2.1, which loses no digits to cancellation.

    Shapes: `(B, ..., channels) -> (B, ..., channels)`, as `keras.layers.BatchNormalization`.

    Args:
        **options: Those of `keras.layers.BatchNormalization`, except `synchronized`, `renorm`.

    Raises:
        UserError: if `renorm` is asked for, or a mask is given in a call: the masked means of
            ranks cannot be combined without their counts.
    """

    def __init__(self, **options: Any) -> None:
        if options.get("renorm"):
            raise UserError("SyncBatchNormalization has no renorm. Received: renorm=True.")
        super().__init__(**options)
        # Its reduction cannot be compiled by XLA, and it lies within the forward pass.
        self.supports_jit = runtime.size() == 1
        self._clock = CollectiveTimer() if runtime.size() > 1 else None

    # An instance says that its class is Keras's own, which Keras then records when it saves it.
    __class__ = property(lambda self: keras.layers.BatchNormalization)

    def moments(self, inputs: Any, mask: Any) -> tuple[Any, Any]:
        """Returns mean and variance over the global batch, each `(channels,)`."""
        if self._clock is None:
            return super().moments(inputs, mask)
        if mask is not None:
            raise UserError(
                "SyncBatchNormalization takes no mask. Received: inputs of shape "
                f"{inputs.shape} with a mask. Use keras.layers.BatchNormalization."
            )
        mean, variance = tf.nn.moments(inputs, self.reduced_axes)
        shape = tf.shape(inputs)
        elements = tf.cast(tf.reduce_prod([shape[axis] for axis in self.reduced_axes]), mean.dtype)
        samples = current_num_samples()
        if samples is not None:
            # A rank with only padding has no part in the statistics.
            samples = tf.cast(samples, mean.dtype)
            elements = tf.where(samples > 0, elements, tf.zeros_like(elements))
        own = tf.concat([mean, variance, [elements]], axis=0)
        packed = _gather(own, current_gradient_weight(), self._clock)
        means, variances, counts = tf.split(packed, [mean.shape[0], mean.shape[0], 1], axis=1)
        shares = tf.stop_gradient(tf.math.divide_no_nan(counts, tf.reduce_sum(counts)))
        mean = tf.reduce_sum(means * shares, axis=0)
        return mean, tf.reduce_sum((variances + tf.square(means - mean)) * shares, axis=0)


def _gather(values: tf.Tensor, samples: tf.Tensor | None, clock: CollectiveTimer) -> tf.Tensor:
    """Returns every rank's `values`, `(ranks, ...)`, with the gradient of the global loss.

    The loss of rank k counts `samples_k` in the mean over all samples; so the gradient of the
    global loss by this rank's values is `sum_k(samples_k * gradient_k)`, divided by this rank's
    samples, since the reduction of gradients will multiply by them.

    Args:
        values: The same shape on all ranks.
        samples: How much this rank's gradients count, scalar; None for the same on all.
        clock: Counts how long the exchanges take.
    """
    horovod, world = runtime.horovod_module(), runtime.world()

    def add_up(values: tf.Tensor) -> tf.Tensor:
        return clock.count([values], lambda: [horovod.allreduce(values, op=horovod.Sum)])[0]

    @tf.custom_gradient
    def gather(values: tf.Tensor) -> Any:
        place = tf.reshape(
            tf.one_hot(world.rank, world.size, dtype=values.dtype),
            [world.size] + [1] * len(values.shape),
        )
        gathered = add_up(place * values)

        def backward(gradient: tf.Tensor) -> tf.Tensor:
            if samples is None:
                return add_up(gradient)[world.rank]
            weight = tf.cast(samples, gradient.dtype)
            total = add_up(tf.math.multiply_no_nan(gradient, weight))[world.rank]
            return tf.math.divide_no_nan(total, weight)

        return gathered, backward

    return gather(values)
