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
from sharedlayers_dist.models.graph import inbound_nodes


class AmbiguousNodeError(AttributeError):
    """A layer was called several times, so that it has no single output or input."""


def get_output_at(layer: keras.Layer, node_index: int) -> Any:
    """The symbolic output of call `node_index` of `layer`; a list if there are several.

    Raises:
        UserError: if the layer has no such call.
    """
    return _unpack(_node_at(layer, node_index).outputs)


def get_input_at(layer: keras.Layer, node_index: int) -> Any:
    """The symbolic input of call `node_index` of `layer`; a list if there are several.

    The input of an `InputLayer` is its own output.

    Raises:
        UserError: if the layer has no such call.
    """
    node = _node_at(layer, node_index)
    return _unpack(node.outputs if node.is_input else node.input_tensors)


def get_output_shape_at(layer: keras.Layer, node_index: int) -> Any:
    """The output shape of call `node_index`, the batch (None) first; a list if there are several.

    Raises:
        UserError: if the layer has no such call.
    """
    return keras.tree.map_structure(lambda x: tuple(x.shape), get_output_at(layer, node_index))


def get_input_shape_at(layer: keras.Layer, node_index: int) -> Any:
    """The input shape of call `node_index`, the batch (None) first; a list if there are several.

    Raises:
        UserError: if the layer has no such call.
    """
    return keras.tree.map_structure(lambda x: tuple(x.shape), get_input_at(layer, node_index))


def get_output(layer: keras.Layer) -> Any:
    """The symbolic output of a layer that was called once.

    Raises:
        AmbiguousNodeError: if the layer was called several times.
        AttributeError: if the layer was never called.
    """
    _require_single_node(layer, "output")
    return get_output_at(layer, 0)


def get_input(layer: keras.Layer) -> Any:
    """The symbolic input of a layer that was called once.

    Raises:
        AmbiguousNodeError: if the layer was called several times.
        AttributeError: if the layer was never called.
    """
    _require_single_node(layer, "input")
    return get_input_at(layer, 0)


def _require_single_node(layer: keras.Layer, what: str) -> None:
    count = len(inbound_nodes(layer))
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


def _node_at(layer: keras.Layer, node_index: int) -> Any:
    nodes = inbound_nodes(layer)
    if not 0 <= node_index < len(nodes):
        rule = (
            f"`node_index` must lie between 0 and {len(nodes) - 1}: layer {layer.name} has "
            f"{len(nodes)} inbound node{'s' if len(nodes) > 1 else ''}."
            if nodes
            else f"Layer {layer.name} has no inbound nodes: call it on a `keras.Input` first."
        )
        raise UserError(f"{rule} Received: node_index={node_index}.")
    return nodes[node_index]


def _unpack(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else list(tensors)
