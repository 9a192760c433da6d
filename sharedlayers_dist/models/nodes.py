"""What each call of a shared layer took and gave, as `layer.get_output_at(i)` said until Keras 2.

Keras 3 dropped these methods, and its `layer.output` of a shared layer silently is that of the
first call. Node 0 is the first symbolic call of the layer, node 1 the second, and so on. A model
that is used as a layer counts in the same way: making it adds no node, each call does. In a model
that was loaded or cloned the nodes are the calls in that model, in the order of the original.
"""

from __future__ import annotations

from typing import Any

import keras

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.graph import (
    Call,
    calls_of_layer,
    structure_of_inputs,
    structure_of_outputs,
)


class AmbiguousNodeError(AttributeError):
    """A layer was called several times, so that it has no single output or input.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> encoded = [dense(keras.Input((5,))), dense(keras.Input((5,)))]
        >>> try:
        ...     get_output(dense)
        ... except AmbiguousNodeError:
        ...     print("called twice")
        called twice
    """


def get_output_at(layer: keras.Layer, node_index: int) -> Any:
    """The symbolic output of call `node_index` of `layer`.

    Args:
        layer: A layer, or a model that was called as one.
        node_index: Which of the layer's calls, 0 for the first.

    Returns:
        A tensor, of shape `(None, ...)`; a list where the layer gives several, and for a model that
        was made with a dictionary of outputs such a dictionary.

    Raises:
        UserError: if the layer has no such call.

    Example:
        >>> a, b = keras.Input((5,)), keras.Input((5,))
        >>> dense = keras.layers.Dense(2)
        >>> encoded_a, encoded_b = dense(a), dense(b)
        >>> get_output_at(dense, 1) is encoded_b
        True
    """
    return _unpack(structure_of_outputs(_call_at(layer, node_index)))


def get_input_at(layer: keras.Layer, node_index: int) -> Any:
    """The symbolic input of call `node_index` of `layer`.

    Args:
        layer: A layer, or a model that was called as one.
        node_index: Which of the layer's calls, 0 for the first.

    Returns:
        A tensor, of shape `(None, ...)`; where the layer was called on several, a list or the
        structure (a dictionary, say) that it was called on. The input of an `InputLayer` is its own
        output.

    Raises:
        UserError: if the layer has no such call.

    Example:
        >>> a, b = keras.Input((5,)), keras.Input((5,))
        >>> dense = keras.layers.Dense(2)
        >>> encoded_a, encoded_b = dense(a), dense(b)
        >>> get_input_at(dense, 1) is b
        True
    """
    call = _call_at(layer, node_index)
    return _unpack(structure_of_outputs(call) if call.is_input else structure_of_inputs(call))


def get_output_shape_at(layer: keras.Layer, node_index: int) -> Any:
    """The output shape of call `node_index` of `layer`, the batch (None) first.

    Args:
        layer: A layer, or a model that was called as one.
        node_index: Which of the layer's calls, 0 for the first.

    Returns:
        A shape; where there are several outputs, shapes in the structure of `get_output_at`.

    Raises:
        UserError: if the layer has no such call.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> encoded = dense(keras.Input((5,)))
        >>> get_output_shape_at(dense, 0)
        (None, 2)
    """
    return keras.tree.map_structure(_shape, get_output_at(layer, node_index))


def get_input_shape_at(layer: keras.Layer, node_index: int) -> Any:
    """The input shape of call `node_index` of `layer`, the batch (None) first.

    Args:
        layer: A layer, or a model that was called as one.
        node_index: Which of the layer's calls, 0 for the first.

    Returns:
        A shape; where there are several inputs, shapes in the structure of `get_input_at`.

    Raises:
        UserError: if the layer has no such call.

    Example:
        >>> conv = keras.layers.Conv2D(4, 3)
        >>> small, large = conv(keras.Input((8, 8, 1))), conv(keras.Input((16, 16, 1)))
        >>> get_input_shape_at(conv, 1)
        (None, 16, 16, 1)
    """
    return keras.tree.map_structure(_shape, get_input_at(layer, node_index))


def get_output(layer: keras.Layer) -> Any:
    """The symbolic output of a layer that was called once, as `get_output_at` gives it.

    Args:
        layer: A layer, or a model that was called as one.

    Raises:
        AmbiguousNodeError: if the layer was called several times.
        AttributeError: if the layer was never called.

    Example:
        >>> dense = keras.layers.Dense(2, name="dense")
        >>> encoded = dense(keras.Input((5,)))
        >>> get_output(dense) is encoded
        True
        >>> encoded_again = dense(keras.Input((5,)))
        >>> get_output(dense)
        Traceback (most recent call last):
        sharedlayers_dist.models.nodes.AmbiguousNodeError: Layer dense has multiple inbound nodes, \
hence the notion of "layer output" is ill-defined. Use `get_output_at(node_index)` instead.
    """
    _require_single_call(layer, "output")
    return get_output_at(layer, 0)


def get_input(layer: keras.Layer) -> Any:
    """The symbolic input of a layer that was called once, as `get_input_at` gives it.

    Args:
        layer: A layer, or a model that was called as one.

    Raises:
        AmbiguousNodeError: if the layer was called several times.
        AttributeError: if the layer was never called.

    Example:
        >>> item = keras.Input((5,))
        >>> dense = keras.layers.Dense(2)
        >>> encoded = dense(item)
        >>> get_input(dense) is item
        True
    """
    _require_single_call(layer, "input")
    return get_input_at(layer, 0)


def _require_single_call(layer: keras.Layer, what: str) -> None:
    count = len(calls_of_layer(layer))
    if count == 0:
        raise AttributeError(
            f"Layer {layer.name} has no inbound nodes, hence no {what}. "
            "Call it on a `keras.Input` first."
        )
    if count > 1:
        raise AmbiguousNodeError(
            f'Layer {layer.name} has multiple inbound nodes, hence the notion of "layer {what}" '
            f"is ill-defined. Use `get_{what}_at(node_index)` instead."
        )


def _call_at(layer: keras.Layer, node_index: int) -> Call:
    calls = calls_of_layer(layer)
    if not 0 <= node_index < len(calls):
        rule = (
            f"`node_index` must lie between 0 and {len(calls) - 1}: layer {layer.name} has "
            f"{len(calls)} inbound node{'s' if len(calls) > 1 else ''}."
            if calls
            else f"Layer {layer.name} has no inbound nodes: call it on a `keras.Input` first."
        )
        raise UserError(f"{rule} Received: node_index={node_index}.")
    return calls[node_index]


def _unpack(tensors: Any) -> Any:
    """A tensor that stands alone in a list, by itself."""
    if not isinstance(tensors, list | tuple):
        return tensors
    return tensors[0] if len(tensors) == 1 else list(tensors)


def _shape(tensor: keras.KerasTensor) -> tuple[int | None, ...]:
    return tuple(tensor.shape)
