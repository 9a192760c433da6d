"""Finding the recurrent layer that reads an encoder's one-hot rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from sharedlayers_dist.models.graph import Call, calls_in_model, has_graph
from sharedlayers_dist.models.recurrent.cells import CellMath, take_apart


class RecurrentStart(NamedTuple):
    """What an encoder begins with: a recurrent layer over its input."""

    math: CellMath
    is_masked: bool
    """Whether steps of zeros are passed over."""
    output: keras.KerasTensor | None
    """What the layer gives in the encoder's graph; None where it is all of the encoder."""


def find_recurrent_start(encoder: keras.Layer) -> RecurrentStart | None:
    """Finds the recurrent layer, if the encoder begins with one whose last output alone is used.

    The layer may be the encoder itself, or come first in a model, by itself or after `Masking`.

    Example:
        >>> encoder = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3)])
        >>> find_recurrent_start(encoder).is_masked
        False
        >>> find_recurrent_start(keras.layers.Dense(3)) is None
        True
    """
    if not has_graph(encoder):
        math = _math_of(encoder)
        return None if math is None else RecurrentStart(math, False, None)
    calls = calls_in_model(encoder)
    call = _only_call_on(encoder.inputs[0], calls)
    masking = call.layer if call and isinstance(call.layer, keras.layers.Masking) else None
    if call is not None and masking is not None:
        if masking.mask_value != 0:
            return None
        call = _only_call_on(call.outputs[0], calls)
    math = None if call is None else _math_of(call.layer)
    if call is None or math is None:
        return None
    return RecurrentStart(math, masking is not None, call.outputs[0])


def _only_call_on(tensor: keras.KerasTensor, calls: list[Call]) -> Call | None:
    """The one call that reads a tensor, if it is told nothing else."""
    readers = [call for call in calls if any(value is tensor for value in call.inputs)]
    if len(readers) != 1:
        return None
    others = [
        value for value in (*readers[0].args, *readers[0].kwargs.values()) if value is not tensor
    ]
    is_plain = all(value is None or value is False for value in others)
    return readers[0] if is_plain else None


def _math_of(layer: Any) -> CellMath | None:
    """The cell of a recurrent layer that begins from zeros and gives its last output."""
    if type(layer) not in _LAYERS or layer.activity_regularizer is not None:
        return None
    others = ("return_sequences", "return_state", "go_backwards", "stateful")
    if any(getattr(layer, name) for name in others):
        return None
    return take_apart(layer.cell)


_LAYERS = (
    keras.layers.RNN,
    keras.layers.LSTM,
    keras.layers.GRU,
    keras.layers.SimpleRNN,
)
