"""What recurrent cells make of an input and a state, apart from the products with their kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

States = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class CellMath:
    """One of Keras's cells, taken apart.

    Both parts have the units of all gates side by side: `from_input` is the input's product with
    the kernel and the input's bias, `from_state` the output's with the recurrent kernel and the
    recurrent bias.
    """

    cell: keras.Layer
    num_states: int
    adds: bool
    """Whether both parts are only ever added, so that they have the same gradients."""
    combine: Callable[[Any, Any, States], States]
    """The new states from `from_input`, `from_state` and the old ones; the first is the output."""

    @property
    def units(self) -> int:
        """Numbers of each state."""
        return int(self.cell.units)

    @property
    def recurrent_kernel(self) -> Any:
        """`(units, gates x units)`."""
        return ops.convert_to_tensor(self.cell.recurrent_kernel)

    @property
    def biases(self) -> tuple[Any, Any]:
        """The biases of input and state, `(gates x units,)` each; zeros where there is none."""
        zeros = ops.zeros(self.cell.kernel.shape[1], self.cell.compute_dtype)
        if self.cell.bias is None:
            return zeros, zeros
        bias = ops.convert_to_tensor(self.cell.bias)
        return (bias[0], bias[1]) if len(bias.shape) == 2 else (bias, zeros)

    @property
    def rows_of_ids(self) -> Any:
        """`from_input` of each id, `(ids, gates x units)`: id 0 is a row of zeros, k column k."""
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
    num_states, adds, combine = found
    return CellMath(cell=cell, num_states=num_states, adds=adds, combine=combine(cell))


def _lstm(cell: keras.layers.LSTMCell) -> Callable[[Any, Any, States], States]:
    is_usual = _is(cell.recurrent_activation, "sigmoid") and _is(cell.activation, "tanh")

    def combine(from_input: Any, from_state: Any, states: States) -> States:
        gates = from_input + from_state
        if is_usual:
            i, f, g, o = _split(_sigmoids_and_tanh(gates, cell.units), 4)
        else:
            i, f, g, o = _split(gates, 4)
            i, f, o = map(cell.recurrent_activation, (i, f, o))
            g = cell.activation(g)
        carry = f * states[1] + i * g
        return o * cell.activation(carry), carry

    return combine


def _sigmoids_and_tanh(gates: Any, units: int) -> Any:
    """The activations of an LSTM's gates by one tanh: a sigmoid is one of half its argument."""
    half, one = [0.5] * units, [1.0] * units
    scale = ops.array([*half, *half, *one, *half], "float32")
    return ops.tanh(gates * scale) * scale + (1 - scale)


def _gru(cell: keras.layers.GRUCell) -> Callable[[Any, Any, States], States]:
    activation, gate = cell.activation, cell.recurrent_activation
    if _is(gate, "sigmoid"):
        gate = _sigmoid

    def combine(from_input: Any, from_state: Any, states: States) -> States:
        units = 2 * cell.units
        z, r = _split(gate(from_input[:, :units] + from_state[:, :units]), 2)
        candidate = activation(from_input[:, units:] + r * from_state[:, units:])
        return (z * states[0] + (1 - z) * candidate,)

    return combine


def _sigmoid(x: Any) -> Any:
    return 0.5 * ops.tanh(0.5 * x) + 0.5


def _simple(cell: keras.layers.SimpleRNNCell) -> Callable[[Any, Any, States], States]:
    def combine(from_input: Any, from_state: Any, states: States) -> States:
        return (cell.activation(from_input + from_state),)

    return combine


def _split(values: Any, parts: int) -> Sequence[Any]:
    split: Sequence[Any] = ops.split(values, parts, axis=-1)
    return split


def _is(activation: Any, name: str) -> bool:
    return activation is keras.activations.get(name)


_CELLS = {
    keras.layers.LSTMCell: (2, True, _lstm),
    keras.layers.GRUCell: (1, False, _gru),
    keras.layers.SimpleRNNCell: (1, True, _simple),
}
