"""Finding the recurrent layer that reads an encoder's one-hot rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from sharedlayers_dist.models.graph import Call, calls_in_model, gives_output, has_graph
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
    for call in calls:
        math, is_masked = _math_of(call.layer), _reads_rows(call, encoder.inputs[0], calls)
        if math is not None and is_masked is not None and gives_output(encoder, call.outputs):
            return RecurrentStart(math, is_masked, call.outputs[0])
    return None


def _reads_rows(call: Call, rows: keras.KerasTensor, calls: list[Call]) -> bool | None:
    """Whether a call reads these rows with a mask of those that are not zeros, or without (False).

    None where it reads, or is told, anything else.
    """
    if _is_on(call, rows):
        return False
    makers = {id(tensor): maker for maker in calls for tensor in maker.outputs}
    masking = makers.get(id(call.called_on))
    mask = makers.get(id(call.kwargs.get("mask")))
    if masking is None or mask is None or len(call.inputs) != 2:
        return None
    is_masking = isinstance(masking.layer, keras.layers.Masking) and _is_on(masking, rows)
    is_of_zeros = type(mask.layer).__name__ == "Any" and any(
        _is_on(mask, tensor) for tensor in _unequal(rows, calls)
    )
    return True if is_masking and is_of_zeros and masking.layer.mask_value == 0 else None


def _unequal(rows: keras.KerasTensor, calls: list[Call]) -> list[keras.KerasTensor]:
    """The tensors that say which numbers are not zero, one of which `Masking` computes."""
    return [
        call.outputs[0]
        for call in calls
        if type(call.layer).__name__ == "NotEqual"
        and _is_on(call, rows)
        and list(call.args[1:]) == [0]
    ]


def _is_on(call: Call, tensor: keras.KerasTensor) -> bool:
    """Whether a call reads this tensor and no other."""
    return len(call.inputs) == 1 and call.inputs[0] is tensor


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
