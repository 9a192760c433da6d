"""What recurrent cells make of an input and a state, apart from the products with their kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

Tensors = tuple[Any, ...]


class CellMath(ABC):
    """One of Keras's cells, taken apart.

    Both parts have the units of all gates side by side, `(rows, G)`: `from_input` is the input's
    product with the kernel and the input's bias, `from_state` the output's with the recurrent
    kernel and the recurrent bias.

    Args:
        cell: The cell.
    """

    num_states: ClassVar[int] = 1
    """The first of them is the output."""
    adds: ClassVar[bool] = True
    """Whether both parts are only ever added, so that they have the same gradients."""
    slope_widths: ClassVar[tuple[int, ...]]
    """Those of the slopes, each as a multiple of the cell's units."""

    def __init__(self, cell: keras.Layer) -> None:
        self.cell = cell

    @abstractmethod
    def step(self, from_input: Any, from_state: Any, states: Tensors) -> tuple[Tensors, Tensors]:
        """The new states, `(rows, units)` each, and the slopes that `pull_back` takes.

        Slopes are the derivatives of the new states by both parts and by the old states. They are
        computed on the way there, where all that they need is at hand; whoever leaves them unused
        has them removed by XLA.
        """

    @abstractmethod
    def pull_back(self, slopes: Tensors, by_states: Tensors) -> tuple[Any, Any, Tensors]:
        """The gradients by `from_input`, by `from_state` and by the old states.

        Args:
            slopes: What `step` gave.
            by_states: The gradients by the new states.
        """

    @property
    def units(self) -> int:
        """Numbers of each state."""
        return int(self.cell.units)

    @property
    def recurrent_kernel(self) -> Any:
        """`(units, G)`."""
        return ops.convert_to_tensor(self.cell.recurrent_kernel)

    @property
    def biases(self) -> tuple[Any, Any]:
        """The biases of input and state, `(G,)` each; zeros where there is none."""
        zeros = ops.zeros(self.cell.kernel.shape[1], self.cell.compute_dtype)
        if self.cell.bias is None:
            return zeros, zeros
        bias = ops.convert_to_tensor(self.cell.bias)
        return (bias[0], bias[1]) if len(bias.shape) == 2 else (bias, zeros)

    @property
    def rows_of_ids(self) -> Any:
        """`from_input` of each id, `(ids, G)`: id 0 is a row of zeros, k column k."""
        bias, _ = self.biases
        return ops.concatenate([bias[None], ops.convert_to_tensor(self.cell.kernel) + bias])


def take_apart(cell: keras.Layer) -> CellMath | None:
    """Takes a cell apart, if it is one of Keras's that can be, in 32 bits and without dropout.

    Example:
        >>> take_apart(keras.layers.LSTMCell(64)).num_states
        2
        >>> take_apart(keras.layers.LSTMCell(64, recurrent_dropout=0.1)) is None
        True
    """
    found = _CELLS.get(type(cell))
    if found is None or cell.dtype_policy.name != "float32":
        return None
    if cell.dropout or cell.recurrent_dropout or not getattr(cell, "reset_after", True):
        return None
    activations = (cell.activation, getattr(cell, "recurrent_activation", cell.activation))
    return found(cell) if all(activation in _SLOPES for activation in activations) else None


class _LSTM(CellMath):
    num_states = 2
    slope_widths = (4, 1, 1)

    def step(self, from_input: Any, from_state: Any, states: Tensors) -> tuple[Tensors, Tensors]:
        _, carry = states
        i, f, g, o = self._gates(from_input + from_state)
        activation, gate = self.cell.activation, self.cell.recurrent_activation
        new_carry = f * carry + i * g
        shown = activation(new_carry)
        of_gates = [
            g * _slope(gate, i),
            carry * _slope(gate, f),
            i * _slope(activation, g),
            shown * _slope(gate, o),
        ]
        slopes = (ops.concatenate(of_gates, axis=1), o * _slope(activation, shown), f)
        return (o * shown, new_carry), slopes

    def pull_back(self, slopes: Tensors, by_states: Tensors) -> tuple[Any, Any, Tensors]:
        of_gates, of_carry, forget = slopes
        by_output, by_carry = by_states
        by_carry = by_carry + by_output * of_carry
        by_gates = of_gates * ops.concatenate([by_carry, by_carry, by_carry, by_output], axis=1)
        return by_gates, by_gates, (ops.zeros_like(by_output), by_carry * forget)

    def _gates(self, values: Any) -> Sequence[Any]:
        activation, gate = self.cell.activation, self.cell.recurrent_activation
        if (activation, gate) != (keras.activations.tanh, keras.activations.sigmoid):
            i, f, g, o = _split(values, 4)
            return gate(i), gate(f), activation(g), gate(o)
        # By one tanh: a sigmoid is one of half its argument.
        half, one = [0.5] * self.units, [1.0] * self.units
        scale = ops.array([*half, *half, *one, *half], "float32")
        return _split(ops.tanh(values * scale) * scale + (1 - scale), 4)


class _GRU(CellMath):
    adds = False
    slope_widths = (3, 3, 1)

    def step(self, from_input: Any, from_state: Any, states: Tensors) -> tuple[Tensors, Tensors]:
        activation, gate = self.cell.activation, self.cell.recurrent_activation
        of_input, of_state = _split(from_input, 3), _split(from_state, 3)
        squash = _sigmoid if gate is keras.activations.sigmoid else gate
        z, r = squash(of_input[0] + of_state[0]), squash(of_input[1] + of_state[1])
        candidate = activation(of_input[2] + r * of_state[2])
        of_candidate = (1 - z) * _slope(activation, candidate)
        of_gates = [
            (states[0] - candidate) * _slope(gate, z),
            of_candidate * of_state[2] * _slope(gate, r),
        ]
        slopes = (
            ops.concatenate([*of_gates, of_candidate], axis=1),
            ops.concatenate([*of_gates, of_candidate * r], axis=1),
            z,
        )
        return (z * states[0] + (1 - z) * candidate,), slopes

    def pull_back(self, slopes: Tensors, by_states: Tensors) -> tuple[Any, Any, Tensors]:
        of_input, of_state, of_output = slopes
        by = ops.concatenate([by_states[0]] * 3, axis=1)
        return of_input * by, of_state * by, (of_output * by_states[0],)


class _SimpleRNN(CellMath):
    slope_widths = (1,)

    def step(self, from_input: Any, from_state: Any, states: Tensors) -> tuple[Tensors, Tensors]:
        output = self.cell.activation(from_input + from_state)
        return (output,), (_slope(self.cell.activation, output),)

    def pull_back(self, slopes: Tensors, by_states: Tensors) -> tuple[Any, Any, Tensors]:
        by_sum = slopes[0] * by_states[0]
        return by_sum, by_sum, (ops.zeros_like(by_sum),)


def _split(values: Any, parts: int) -> Sequence[Any]:
    split: Sequence[Any] = ops.split(values, parts, axis=-1)
    return split


def _sigmoid(values: Any) -> Any:
    """By tanh, which XLA computes in less time."""
    return 0.5 * ops.tanh(0.5 * values) + 0.5


def _slope(activation: Callable[[Any], Any], output: Any) -> Any:
    """The derivative of an activation where it gives `output`."""
    return _SLOPES[activation](output)


_SLOPES: dict[Callable[[Any], Any], Callable[[Any], Any]] = {
    keras.activations.sigmoid: lambda y: y - y * y,
    keras.activations.tanh: lambda y: 1 - y * y,
    keras.activations.relu: lambda y: ops.cast(y > 0, y.dtype),
    keras.activations.linear: ops.ones_like,
    keras.activations.softsign: lambda y: ops.square(1 - ops.abs(y)),
    keras.activations.hard_sigmoid: lambda y: ops.cast((y > 0) & (y < 1), y.dtype) / 6,
}
_CELLS: dict[type, type[CellMath]] = {
    keras.layers.LSTMCell: _LSTM,
    keras.layers.GRUCell: _GRU,
    keras.layers.SimpleRNNCell: _SimpleRNN,
}
