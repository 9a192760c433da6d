"""One walk of a recurrent cell over the steps of a few items, forward and backward, by XLA.

Gradients are written by hand, since what a loop of XLA's leaves for its gradient cannot leave the
program. The backward loop gives, step by step, the gradients by both parts of the gates; those of
the recurrent kernel are one product over all steps then, and those of the kernel sums by id.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from sharedlayers_dist.models.recurrent.cells import CellMath, States


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

    from_state: Any
    """`(length, rows, G)`."""
    states: States
    """Those that each step begins with, `(length, rows, units)` each."""


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

    def _run(self, ids: Any, skipped: Any, begin: States, weights: Weights) -> States:
        """The states after the last step.

        Args:
            ids: The ids of all steps, `(rows, length)`.
            skipped: How many of the first steps are not run, scalar int32.
            begin: The states before the first step that is run, `(rows, units)` each.
            weights: Those of the layer.
        """
        ids = tf.transpose(ids)

        def step(number: Any, states: States) -> tuple[Any, States]:
            from_state = self._from_state(states, weights)
            return number + 1, self._step(ids[number], from_state, states, weights.rows_of_ids)

        return _loop(step, skipped, tf.shape(ids)[0], begin)

    def _run_traced(
        self, ids: Any, skipped: Any, begin: States, weights: Weights
    ) -> tuple[States, Trace]:
        """The same, and what the way back needs: zeros for the steps that are skipped."""
        ids = tf.transpose(ids)
        num_steps = tf.shape(ids)[0]
        widths = (weights.recurrent_kernel.shape[1], *(states.shape[1] for states in begin))
        arrays = [_array(num_steps, ids.shape[1], width) for width in widths]

        def step(number: Any, values: Any) -> Any:
            states, arrays = values
            from_state = self._from_state(states, weights)
            arrays = [
                array.write(number, value)
                for array, value in zip(arrays, (from_state, *states), strict=True)
            ]
            states = self._step(ids[number], from_state, states, weights.rows_of_ids)
            return number + 1, (states, arrays)

        states, arrays = _loop(step, skipped, num_steps, (begin, arrays))
        from_state, *before = (array.stack() for array in arrays)
        return states, Trace(from_state, tuple(before))

    def _go_back(
        self,
        ids: Any,
        skipped: Any,
        trace: Trace,
        weights: Weights,
        by_last: States,
        by_before: States | None,
    ) -> tuple[States, Weights]:
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

        def step(number: Any, values: Any) -> Any:
            by_states, arrays = values
            states = tuple(before[number] for before in trace.states)
            from_state = trace.from_state[number]
            rows = tf.gather(weights.rows_of_ids, ids[number])
            with tf.GradientTape() as tape:
                tape.watch((rows, from_state, states))
                after = self._combine(ids[number], rows, from_state, states)
            by_rows, by_from_state, by_states = tape.gradient(
                after, (rows, from_state, states), by_states, tf.UnconnectedGradients.ZERO
            )
            by_output = tf.matmul(by_from_state, weights.recurrent_kernel, transpose_b=True)
            by_states = (by_states[0] + by_output, *by_states[1:])
            if by_before is not None:
                by_states = tuple(
                    by + incoming[number] for by, incoming in zip(by_states, by_before, strict=True)
                )
            written = [
                array.write(number, by)
                for array, by in zip(arrays, (by_from_state, by_rows), strict=False)
            ]
            return number - 1, (by_states, written)

        arrays = [_array(num_steps, ids.shape[1], width) for _ in range(num_arrays)]
        by_begin, arrays = _loop(step, skipped, num_steps, (by_last, arrays), backward=True)
        by_from_state, by_rows = ([tf.reshape(a.stack(), (-1, width)) for a in arrays] * 2)[:2]
        outputs = tf.reshape(trace.states[0], (-1, self._math.units))
        return by_begin, Weights(
            rows_of_ids=tf.math.unsorted_segment_sum(
                by_rows, tf.reshape(ids, (-1,)), weights.rows_of_ids.shape[0]
            ),
            recurrent_kernel=tf.matmul(outputs, by_from_state, transpose_a=True),
            recurrent_bias=tf.reduce_sum(by_from_state, axis=0),
        )

    def _from_state(self, states: States, weights: Weights) -> Any:
        return tf.matmul(states[0], weights.recurrent_kernel) + weights.recurrent_bias

    def _step(self, ids: Any, from_state: Any, states: States, rows_of_ids: Any) -> States:
        return self._combine(ids, tf.gather(rows_of_ids, ids), from_state, states)

    def _combine(self, ids: Any, rows: Any, from_state: Any, states: States) -> States:
        """The states after a step of one id for each item, `(rows,)`."""
        after = self._math.combine(rows, from_state, states)
        if not self._is_masked:
            return after
        is_there = (ids != 0)[:, None]
        return tuple(tf.where(is_there, a, b) for a, b in zip(after, states, strict=True))


def _array(num_steps: Any, num_rows: int | None, width: int) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, size=num_steps, element_shape=(num_rows, width))


def _loop(body: Any, first: Any, end: Any, values: Any, *, backward: bool = False) -> Any:
    """Runs `body(number, values)` for the steps from `first` on, or from the last back to it."""

    def goes_on(number: Any, _: Any) -> Any:
        return number >= first if backward else number < end

    return tf.while_loop(goes_on, body, (end - 1 if backward else first, values))[1]
