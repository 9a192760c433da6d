"""Pair models: one encoder used on two inputs, and a head that compares what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.graph import Call, calls_in_model, has_graph, is_symbol
from sharedlayers_dist.models.heads import apply_head


def pair_classifier(
    encoder: keras.Layer,
    head: str | keras.Layer = "concatenation",
    *,
    name: str = "pair_classifier",
) -> keras.Model:
    """Scores pairs of items: `{"a": (B, ...), "b": (B, ...)} -> (B, 1)`.

    Both sides go through the same encoder, with the same weights. The model is not compiled.

    Args:
        encoder: A model, or a layer that has been built or called, with one input and one output.
            The inputs of the pair model have its input's shape and dtype.
        head: "concatenation" (the notebook's; additive in the two sides, so that it cannot say
            whether they are *the same*, see `models.heads`), "absolute_difference", "cosine",
            "scaled_cosine" or "comparison" (all symmetric), or a Keras layer that takes the list
            of both encodings. The named heads work in 32 bits under a policy of mixed precision
            too.
        name: The name of the pair model.

    Returns:
        A functional model with the inputs `a` and `b`.

    Raises:
        UserError: for an encoder whose input shape is not known or that has several inputs or
            outputs, and for an unknown head.

    Example:
        >>> encoder = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
        >>> model = pair_classifier(encoder, head="cosine")
        >>> [(side.name, side.shape) for side in model.inputs]
        [('a', (None, 28, 28, 1)), ('b', (None, 28, 28, 1))]
        >>> model.output_shape
        (None, 1)
    """
    shape, dtype = _input_of(encoder)
    _require_single_output(encoder, keras.KerasTensor(shape, dtype=dtype))
    a = keras.Input(shape[1:], dtype=dtype, name="a")
    b = keras.Input(shape[1:], dtype=dtype, name="b")
    return keras.Model([a, b], apply_head(head, encoder(a), encoder(b)), name=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairEncoder:
    """The encoder of a pair model, and where it stands in the model's graph.

    Example:
        >>> encoder = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
        >>> encoded_a, encoded_b = find_encoder(pair_classifier(encoder)).encoded
        >>> encoded_a.shape
        (None, 2)
    """

    layer: keras.Layer
    encoded: tuple[Any, Any]
    """The symbolic encodings of the model's first and second input, each `(None, D)`."""


def find_encoder(model: keras.Model) -> PairEncoder | None:
    """Finds the one layer that is called once on each of the two inputs of `model`.

    It is there in every `pair_classifier`, also in one that was loaded from a file, and in models
    written by hand in the same way. In others (several shared layers, further inputs or outputs,
    calls with more than the input) the answer is None.

    Args:
        model: A functional model.

    Raises:
        UserError: for a model that is not functional.

    Example:
        >>> encoder = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)])
        >>> find_encoder(pair_classifier(encoder)).layer is encoder
        True
    """
    if len(model.inputs) != 2 or len(model.outputs) != 1:
        return None
    calls_of: dict[keras.Layer, list[Call]] = {}
    for call in calls_in_model(model):
        calls_of.setdefault(call.layer, []).append(call)
    shared = [layer for layer, calls in calls_of.items() if len(calls) > 1]
    if len(shared) != 1:
        return None
    (layer,) = shared
    encoded_of_input = {
        id(call.called_on): call.outputs[0] for call in calls_of[layer] if _is_on_one_item(call)
    }
    called_on = [id(tensor) for tensor in model.inputs]
    if len(calls_of[layer]) != 2 or set(encoded_of_input) != set(called_on):
        return None
    first, second = (encoded_of_input[tensor_id] for tensor_id in called_on)
    return PairEncoder(layer=layer, encoded=(first, second))


def _is_on_one_item(call: Call) -> bool:
    """Whether a layer was called on one tensor and told nothing else, and gave one."""
    others = [value for value in (*call.args, *call.kwargs.values()) if value is not call.called_on]
    return (
        is_symbol(call.called_on)
        and len(call.outputs) == 1
        and all(value is None or value is False for value in others)
    )


def _input_of(encoder: Any) -> tuple[tuple[int | None, ...], str]:
    """The encoder's input shape, batch first, and dtype."""
    if not isinstance(encoder, keras.Layer):
        raise UserError(f"`encoder` must be a Keras model or layer. Received: encoder={encoder!r}.")
    if has_graph(encoder):
        if len(encoder.inputs) != 1:
            names = [tensor.name for tensor in encoder.inputs]
            raise UserError(
                "`encoder` must have one input: the item of one side. Received: an encoder with "
                f"the inputs {names}."
            )
        return tuple(encoder.inputs[0].shape), encoder.inputs[0].dtype
    shape = (encoder.get_build_config() or {}).get("input_shape") if encoder.built else None
    if not isinstance(shape, (tuple, list)) or not all(n is None or type(n) is int for n in shape):
        raise UserError(
            "`encoder` must know the shape of its one input. Received: "
            f"encoder={encoder!r}, which has not been built on one. "
            "Call `encoder.build((None, ...))` first, or make it a functional model."
        )
    return tuple(shape), keras.config.floatx()


def _require_single_output(encoder: keras.Layer, item: keras.KerasTensor) -> None:
    encoded = encoder.compute_output_spec(item)
    if not isinstance(encoded, keras.KerasTensor):
        raise UserError(
            "`encoder` must have one output: the encoding of the item. Received: an encoder with "
            f"{len(keras.tree.flatten(encoded))} outputs. Choose one with "
            "`keras.Model(encoder.inputs, encoder.outputs[0])`, or join them."
        )
