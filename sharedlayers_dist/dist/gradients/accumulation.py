"""Adding up gradients on one rank over several backward passes, before one reduction of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


class LocalAccumulation:
    """Adds up a rank's gradients; every `num_passes`-th pass hands on what there is.

    All ranks take the same number of passes, so they hand on at the same time.

    Args:
        num_passes: Passes per step.
        mean: Whether the gradient handed on is the mean over the passes instead of their sum.
    """

    def __init__(self, num_passes: int, *, mean: bool) -> None:
        self._num_passes = num_passes
        self._factor = 1.0 if mean else float(num_passes)
        self._sums: list[tf.Variable | None] = []
        with tf.init_scope():
            self._pass = tf.Variable(0, dtype=tf.int64, trainable=False, name="pass")
            self._samples = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="samples")

    @property
    def variables(self) -> list[tf.Variable]:
        """The state of this rank; between steps all of it is zero."""
        return [self._pass, self._samples, *(s for s in self._sums if s is not None)]

    def add(
        self,
        gradients: Sequence[Any],
        variables: Sequence[Any],
        num_samples: tf.Tensor | None,
        hand_on: Callable[[list[Any], tf.Tensor | None], None],
    ) -> None:
        """Adds one pass's gradients, and calls `hand_on(gradients, num_samples)` if it is the last.

        It gets the mean over the passes' samples, or the sum over passes: that mean times the
        number of passes. Sparse gradients become dense.

        Args:
            gradients: Means over `num_samples` samples, or None.
            variables: The variables of `gradients`, in the same order.
            num_samples: Scalar float64, or None to give all passes the same weight.
            hand_on: Builds the graph of reduction and update.
        """
        if not self._sums:
            with tf.init_scope():
                self._sums = [
                    None if g is None else tf.Variable(tf.zeros(v.shape, g.dtype), trainable=False)
                    for g, v in zip(gradients, variables, strict=True)
                ]
        weight = tf.constant(1.0, tf.float64) if num_samples is None else num_samples
        for total, gradient in zip(self._sums, gradients, strict=True):
            if total is not None:
                dense = tf.convert_to_tensor(gradient)
                total.assign_add(tf.math.multiply_no_nan(dense, tf.cast(weight, dense.dtype)))
        self._samples.assign_add(weight)
        self._pass.assign_add(1)

        def end_step() -> tf.Tensor:
            samples = self._samples.read_value()
            scale = tf.math.divide_no_nan(self._factor, samples)
            means = [
                None if s is None else s.read_value() * tf.cast(scale, s.dtype) for s in self._sums
            ]
            hand_on(means, None if num_samples is None else samples)
            for variable in self.variables:
                variable.assign(tf.zeros_like(variable))
            return tf.constant(True)

        tf.cond(tf.equal(self._pass, self._num_passes), end_step, lambda: tf.constant(False))
