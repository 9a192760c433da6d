"""Running a recurrent layer over ids: each item's own steps alone, with gradients.

Every item is in the same state after as many steps of zeros. So the states that zeros lead to are
computed once, for a batch of one, and an item begins with the state after its own zeros. Items are
sorted by length and run in chunks, each over the steps of its longest item; chunks do not depend on
each other, so that they use the cores that a loop of XLA's leaves idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from sharedlayers_dist.models.recurrent.cells import CellMath, Tensors
from sharedlayers_dist.models.recurrent.chunks import ROWS, Chunks, cut_into_chunks, move_to_end
from sharedlayers_dist.models.recurrent.walk import Trace, Walk, Weights


class RecurrentRunner:
    """Gives the last output of a recurrent layer over one-hot rows.

    Args:
        math: The layer's cell.
        is_masked: Whether steps of zeros are passed over.

    Example:
        >>> import keras
        >>> from sharedlayers_dist.models.recurrent.cells import take_apart
        >>> layer = keras.layers.LSTM(2)
        >>> layer.build((None, 5, 3))
        >>> runner = RecurrentRunner(take_apart(layer.cell), is_masked=False)
        >>> expected = layer(keras.ops.one_hot([[0, 0, 1, 2, 0]], 4)[..., 1:])
        >>> bool(abs(runner([[0, 0, 1, 2, 0]], training=False) - expected).numpy().max() < 1e-6)
        True
    """

    def __init__(self, math: CellMath, *, is_masked: bool) -> None:
        self._math = math
        self._is_masked = is_masked
        self._walk = Walk(math, is_masked=is_masked)

    def __call__(self, ids: Any, *, training: bool) -> tf.Tensor:
        """Runs the layer: ids `(items, T)` to `(items, units)`.

        Args:
            ids: Integers; id 0, and any above the kernel's rows, is a row of zeros.
            training: Whether gradients will be asked for. Where they are all the same, they take
                another forward pass.
        """
        math = self._math
        of_cell = (math.rows_of_ids, math.recurrent_kernel, math.biases[1])
        weights = Weights(*map(tf.convert_to_tensor, of_cell))
        ids = tf.cast(ids, tf.int32)
        ids = tf.where(ids < weights.rows_of_ids.shape[0], ids, 0)
        chunks = cut_into_chunks(move_to_end(ids) if self._is_masked else ids)
        begins = self._begins(chunks, weights)

        @tf.custom_gradient
        def run(*values: Any) -> Any:
            values = _unwatched(values)
            weights, begins = Weights(*values[:3]), values[3:]
            outputs, traces = self._run_chunks(chunks, weights, begins, traced=training)

            def differentiate(by_outputs: tf.Tensor) -> tuple[Any, ...]:
                known = traces or self._run_chunks(chunks, weights, begins, traced=True)[1]
                by_weights, by_begins = self._differentiate(chunks, weights, known, by_outputs)
                return (*by_weights, *by_begins)

            return outputs, differentiate

        return run(*weights, *begins)

    def _begins(self, chunks: Chunks, weights: Weights) -> Tensors:
        """The states that each chunk begins with, `(count, units)` each."""
        length = chunks.ids.shape[1]
        zeros = self._zeros(1)
        if self._is_masked:  # Steps of zeros lead nowhere.
            return tuple(tf.tile(zero, [chunks.count, 1]) for zero in zeros)
        ids = tf.zeros((1, length), tf.int32)

        @tf.custom_gradient
        def run(*values: Any) -> Any:
            weights = Weights(*_unwatched(values))
            num_states = self._math.num_states
            last, trace = self._walk.run_traced(ids, tf.constant(0), zeros, weights, num_states)
            states = [tf.concat([s[:, 0], e], 0) for s, e in zip(trace.states, last, strict=True)]

            def differentiate(*gradients: Any) -> Weights:
                by_states = tuple(map(tf.convert_to_tensor, gradients))  # Of rows, as gathered.
                by_last = tuple(by[length:] for by in by_states)
                by_before = tuple(by[:length, None] for by in by_states)
                nothing = tf.constant(0)
                return self._walk.go_back(ids, nothing, trace, weights, by_last, by_before)[1]

            return states, differentiate

        return tuple(tf.gather(states, length - chunks.steps) for states in run(*weights))

    def _run_chunks(
        self, chunks: Chunks, weights: Weights, begins: Tensors, *, traced: bool
    ) -> tuple[tf.Tensor, list[tf.TensorArray]]:
        """The outputs of all items, `(items, units)`, and a trace of each chunk if asked for."""

        def run(number: tf.Tensor, arrays: list[tf.TensorArray]) -> Any:
            part = chunks.take(number)
            begin = tuple(tf.repeat(states[number][None], ROWS, axis=0) for states in begins)
            if traced:
                last, trace = self._walk.run_traced(*part, begin, weights)
                values = [last[0], *trace.states, *trace.slopes]
            else:
                values = [self._walk.run(*part, begin, weights)[0]]
            written = [a.write(number, value) for a, value in zip(arrays, values, strict=True)]
            return number + 1, written

        num_arrays = 2 + len(self._math.slope_widths) if traced else 1
        outputs, *traces = _for_each(chunks, run, [_array(chunks) for _ in range(num_arrays)])
        outputs = tf.ensure_shape(outputs.concat(), (None, self._math.units))
        return chunks.restore(outputs), traces

    def _differentiate(
        self,
        chunks: Chunks,
        weights: Weights,
        traces: list[tf.TensorArray],
        by_outputs: tf.Tensor,
    ) -> tuple[Weights, Tensors]:
        """The gradients by the weights, and by the states that chunks begin with."""
        by_rows = chunks.sort(by_outputs)
        _, *zeros = self._zeros(ROWS)
        units = self._math.units
        widths = (1, *self._math.slope_widths)

        def run(number: tf.Tensor, values: Any) -> Any:
            sums, arrays = values
            by_output = tf.ensure_shape(by_rows[number * ROWS :][:ROWS], (ROWS, units))
            outputs, *slopes = (
                tf.ensure_shape(array.read(number), (None, ROWS, width * units))
                for array, width in zip(traces, widths, strict=True)
            )
            by_begin, by_weights = self._walk.go_back(
                *chunks.take(number),
                Trace((outputs,), tuple(slopes)),
                weights,
                (by_output, *zeros),
                None,
            )
            sums = Weights(*(total + by for total, by in zip(sums, by_weights, strict=True)))
            arrays = [
                array.write(number, tf.reduce_sum(by, axis=0))
                for array, by in zip(arrays, by_begin, strict=True)
            ]
            return number + 1, (sums, arrays)

        sums = Weights(*(tf.zeros_like(weight) for weight in weights))
        arrays = [_array(chunks) for _ in range(self._math.num_states)]
        by_weights, by_begins = _for_each(chunks, run, (sums, arrays))
        return by_weights, tuple(tf.ensure_shape(by.stack(), (None, units)) for by in by_begins)

    def _zeros(self, rows: int) -> Tensors:
        return (tf.zeros((rows, self._math.units)),) * self._math.num_states


def _unwatched(values: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
    """The same, which no tape follows: it would ask XLA for what a loop leaves for its gradient."""
    return tuple(map(tf.stop_gradient, values))


def _array(chunks: Chunks) -> tf.TensorArray:
    """An array of a tensor for each chunk, of any shape."""
    return tf.TensorArray(tf.float32, size=chunks.count, infer_shape=False, element_shape=None)


def _for_each(chunks: Chunks, body: Any, values: Any) -> Any:
    """Runs `body(number, values)` for each chunk, several at a time."""
    return tf.while_loop(lambda number, _: number < chunks.count, body, (tf.constant(0), values))[1]
