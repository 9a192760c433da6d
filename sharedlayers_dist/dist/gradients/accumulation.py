"""Adding up gradients on one rank over several backward passes, before one reduction of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from sharedlayers_dist.dist.gradients.reduction_options import variable_key
from sharedlayers_dist.errors import UserError


class LocalAccumulation:
    """Adds up a rank's gradients; every `num_passes`-th pass hands on what there is.

    All ranks take the same number of passes, so they hand on at the same time. Passes are counted
    through the ends of epochs.

    Its state is the sum over passes `p` of `n_p * g_p`, for gradients `g_p` that are means over
    `n_p` samples, and the sum of `n_p`. These are sums over samples: those of all ranks may be
    added up on one of them, and the others go on from zero, with the same result.

    Args:
        num_passes: Passes per step.
        mean: Whether the gradient handed on is the mean over the passes instead of their sum.
    """

    def __init__(self, num_passes: int, *, mean: bool) -> None:
        self._num_passes = num_passes
        self._factor = 1.0 if mean else float(num_passes)
        self._sums: dict[int, tf.Variable] = {}
        with tf.init_scope():
            self.passes = tf.Variable(0, dtype=tf.int64, trainable=False, name="passes")
            """Those since the last step, scalar; the same on all ranks."""
            self._samples = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="samples")

    def build(self, variables: Sequence[Any]) -> None:
        """Makes the sums for gradients of `variables`, all that the optimizer has; once."""
        if self._sums:
            return
        with tf.init_scope():
            self._sums = {
                variable_key(v): tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False)
                for v in variables
            }

    @property
    def sums(self) -> list[tf.Variable]:
        """This rank's part of what has been added up: the samples, and the gradients' sums."""
        return [self._samples, *self._sums.values()]

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
        weight = tf.constant(1.0, tf.float64) if num_samples is None else num_samples
        totals = [
            None if g is None else self._sum_of(v)
            for g, v in zip(gradients, variables, strict=True)
        ]
        for total, gradient in zip(totals, gradients, strict=True):
            if total is not None:
                dense = tf.convert_to_tensor(gradient)
                total.assign_add(tf.math.multiply_no_nan(dense, tf.cast(weight, dense.dtype)))
        self._samples.assign_add(weight)
        self.passes.assign_add(1)

        def end_step() -> tf.Tensor:
            samples = self._samples.read_value()
            # Without counts every pass counts once, also one that another rank has taken.
            divisor = self._num_passes if num_samples is None else samples
            factor = tf.constant(self._factor, tf.float64)
            scale = tf.math.divide_no_nan(factor, tf.cast(divisor, tf.float64))
            means = [
                None if t is None else t.read_value() * tf.cast(scale, t.dtype) for t in totals
            ]
            hand_on(means, None if num_samples is None else samples)
            for variable in (self.passes, *self.sums):
                variable.assign(tf.zeros_like(variable))
            return tf.constant(True)

        tf.cond(tf.equal(self.passes, self._num_passes), end_step, lambda: tf.constant(False))

    def _sum_of(self, variable: Any) -> tf.Variable:
        total = self._sums.get(variable_key(variable))
        if total is None:
            raise UserError(
                "An optimizer is applied to variables that it was built with. Received: "
                f"{getattr(variable, 'path', variable)!r}."
            )
        return total

    def forget(self) -> None:
        """Sets this rank's part to zero."""
        for total in self.sums:
            total.assign(tf.zeros_like(total))

    def resume(self, accumulated: Sequence[np.ndarray]) -> None:
        """Goes on from passes of which this rank has all.

        Args:
            accumulated: The number of passes, and `sums`; empty for none.

        Raises:
            UserError: if they are of another model, or of more passes than make a step.
        """
        if not accumulated:
            self.passes.assign(0)
            self.forget()
            return
        passes, shapes = int(accumulated[0]), [np.shape(total) for total in accumulated[1:]]
        wanted = [tuple(total.shape) for total in self.sums]
        if passes >= self._num_passes or shapes != wanted:
            raise UserError(
                "Accumulated gradients go on in the model, and with the number of passes per "
                f"update, that they were made with. Received: {passes} passes of shapes {shapes}, "
                f"for {self._num_passes} passes per update of shapes {wanted}."
            )
        self.passes.assign(passes)
        for total, value in zip(self.sums, accumulated[1:], strict=True):
            total.assign(value.astype(total.dtype.as_numpy_dtype))
