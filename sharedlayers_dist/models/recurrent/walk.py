"""One walk of a recurrent cell over the steps of a few items, forward and backward, by XLA.

Gradients are written by hand, since what a loop of XLA's leaves for its gradient cannot leave the
program. The forward loop leaves the slopes of each step, the backward loop multiplies by them and
gives the gradients by both parts of the gates; those of the recurrent kernel are one product over
all steps then, and those of the kernel sums by id.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from sharedlayers_dist.models.recurrent.cells import CellMath, Tensors


class Weights(NamedTuple):
    """What is trained; or the gradients by it."""

    rows_of_ids: Any
    """`(ids, G)`, where G is the units of all gates."""
    recurrent_kernel: Any
    """`(units, G)`."""
    recurrent_bias: Any
    """`(G,)`."""


class Trace(NamedTuple):
    """What a walk leaves for the way back."""

    states: Tensors
    """Those that each step begins with, `(length, rows, units)` each: the first, or all."""
    slopes: Tensors
    """Those of each step, `(length, rows, ...)` each."""


class Walk:
    """The programs of one cell; XLA compiles each once for each length and number of rows.

    How many of the first steps are skipped is known when they run: so a few lengths serve all.

    Args:
        math: The cell.
        is_masked: Whether steps of zeros leave the states as they are.
    """

    def __init__(self, math: CellMath, *, is_masked: bool) -> None:
        self._math = math
        self._is_masked = is_masked
        options = {"jit_compile": True, "autograph": False}
        self.run = tf.function(self._run, **options)
        self.run_traced = tf.function(self._run_traced, **options)
        self.go_back = tf.function(self._go_back, **options)

    def _run(self, ids: Any, skipped: Any, begin: Tensors, weights: Weights) -> Tensors:
        """The states after the last step.

        Args:
            ids: The ids of all steps, `(rows, length)`.
            skipped: How many of the first steps are not run, scalar int32.
            begin: The states before the first step that is run, `(rows, units)` each.
            weights: Those of the layer.
        """
        ids = tf.transpose(ids)

        def step(number: Any, states: Tensors) -> tuple[Any, Tensors]:
            return number + 1, self._step(ids[number], states, weights)[0]

        return _loop(step, skipped, tf.shape(ids)[0], begin)

    def _run_traced(
        self, ids: Any, skipped: Any, begin: Tensors, weights: Weights, num_states: int = 1
    ) -> tuple[Tensors, Trace]:
        """The same, and what the way back needs: zeros for the steps that are skipped.

        Args:
            ids: As in `run`.
            skipped: As in `run`.
            begin: As in `run`.
            weights: As in `run`.
            num_states: How many of the states that steps begin with are to be in the trace.
        """
        ids = tf.transpose(ids)
        num_steps = tf.shape(ids)[0]
        widths = (1,) * num_states + self._math.slope_widths
        arrays = [_array(num_steps, ids.shape[1], width * self._math.units) for width in widths]

        def step(number: Any, values: Any) -> Any:
            states, arrays = values
            after, slopes = self._step(ids[number], states, weights)
            kept = (*states[:num_states], *slopes)
            arrays = [a.write(number, value) for a, value in zip(arrays, kept, strict=True)]
            return number + 1, (after, arrays)

        states, arrays = _loop(step, skipped, num_steps, (begin, arrays))
        kept = tuple(array.stack() for array in arrays)
        return states, Trace(kept[:num_states], kept[num_states:])

    def _go_back(
        self,
        ids: Any,
        skipped: Any,
        trace: Trace,
        weights: Weights,
        by_last: Tensors,
        by_before: Tensors | None,
    ) -> tuple[Tensors, Weights]:
        """The gradients by the states at the beginning, and by the weights.

        Args:
            ids: As in `run`.
            skipped: As in `run`.
            trace: What `run_traced` left.
            weights: As in `run`.
            by_last: The gradients by the states after all steps.
            by_before: Those by the states before each step, `(length, rows, units)` each; or None.
        """
        ids = tf.transpose(ids)
        num_steps = tf.shape(ids)[0]
        width = weights.recurrent_kernel.shape[1]
        num_arrays = 1 if self._math.adds else 2
        transposed = tf.transpose(weights.recurrent_kernel)

        def step(number: Any, values: Any) -> Any:
            by_states, arrays = values
            slopes = tuple(slope[number] for slope in trace.slopes)
            by_input, by_state, by_old = self._math.pull_back(slopes, by_states)
            if self._is_masked:
                is_there = (ids[number] != 0)[:, None]
                by_input, by_state = (tf.where(is_there, by, 0.0) for by in (by_input, by_state))
                by_old = _where(is_there, by_old, by_states)
            by_states = (by_old[0] + tf.matmul(by_state, transposed), *by_old[1:])
            if by_before is not None:
                by_states = tuple(
                    by + incoming[number] for by, incoming in zip(by_states, by_before, strict=True)
                )
            written = [
                a.write(number, by) for a, by in zip(arrays, (by_state, by_input), strict=False)
            ]
            return number - 1, (by_states, written)

        arrays = [_array(num_steps, ids.shape[1], width) for _ in range(num_arrays)]
        by_begin, arrays = _loop(step, skipped, num_steps, (by_last, arrays), backward=True)
        by_state, by_input = ([tf.reshape(a.stack(), (-1, width)) for a in arrays] * 2)[:2]
        outputs = tf.reshape(trace.states[0], (-1, self._math.units))
        return by_begin, Weights(
            rows_of_ids=tf.math.unsorted_segment_sum(
                by_input, tf.reshape(ids, (-1,)), weights.rows_of_ids.shape[0]
            ),
            recurrent_kernel=tf.matmul(outputs, by_state, transpose_a=True),
            recurrent_bias=tf.reduce_sum(by_state, axis=0),
        )

    def _step(self, ids: Any, states: Tensors, weights: Weights) -> tuple[Tensors, Tensors]:
        """The states after a step of one id for each item, `(rows,)`, and its slopes."""
        rows = tf.gather(weights.rows_of_ids, ids)
        from_state = tf.matmul(states[0], weights.recurrent_kernel) + weights.recurrent_bias
        after, slopes = self._math.step(rows, from_state, states)
        if self._is_masked:
            after = _where((ids != 0)[:, None], after, states)
        return after, slopes


def _where(is_there: Any, values: Tensors, others: Tensors) -> Tensors:
    return tuple(tf.where(is_there, a, b) for a, b in zip(values, others, strict=True))


def _array(num_steps: Any, num_rows: int | None, width: int) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, size=num_steps, element_shape=(num_rows, width))


def _loop(body: Any, first: Any, end: Any, values: Any, *, backward: bool = False) -> Any:
    """Runs `body(number, values)` for the steps from `first` on, or from the last back to it."""

    def goes_on(number: Any, _: Any) -> Any:
        return number >= first if backward else number < end

    return tf.while_loop(goes_on, body, (end - 1 if backward else first, values))[1]
