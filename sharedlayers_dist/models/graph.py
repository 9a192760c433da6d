"""The graph of calls inside a functional model; the one place that reads Keras's private names.

Keras records each symbolic call of a layer as a *node*: the tensors it was called on and those it
gave. A layer keeps its own nodes in the order of its calls, over all models; a model's graph is
those nodes that lie between its inputs and its outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from sharedlayers_dist.errors import UserError


def inbound_nodes(layer: keras.Layer) -> list[Any]:
    """The symbolic calls of `layer`, first call first, whichever models they belong to."""
    return layer._inbound_nodes


def has_graph(layer: keras.Layer) -> bool:
    """Whether `layer` is a functional model, or a Sequential one whose input shape is known."""
    return _function_of(layer) is not None


def nodes_of(model: keras.Model) -> list[Any]:
    """The nodes of `model`'s own graph, each after those it depends on.

    Raises:
        UserError: for a subclassed model or an unbuilt Sequential one, which have no graph.
    """
    function = _function_of(model)
    if function is None:
        raise UserError(
            "The model must be functional, or Sequential with a known input shape. Received: "
            f"model={model!r}. Make it with `keras.Model(inputs, outputs)`."
        )
    by_depth = function._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def layers_within(layer: keras.Layer) -> list[keras.Layer]:
    """`layer` and all layers inside it, at any depth."""
    return list(layer._flatten_layers(include_self=True, recursive=True))


def run_graph(model: keras.Model, known: Mapping[int, Any], *, training: bool | None) -> Any:
    """Computes the output of `model` from the values of any tensors that cut its graph.

    Unlike `keras.Model(intermediate, outputs)` it leaves no new nodes on the layers.

    Args:
        model: a functional model with one output.
        known: values by `id` of the symbolic tensor that they stand for. What depends on them is
            run, what they make superfluous is not.
        training: passed to every layer that takes it, as Keras does.
    """
    values = dict(known)
    for node in nodes_of(model):
        if node.is_input or all(id(tensor) in values for tensor in node.outputs):
            continue
        if any(id(tensor) not in values for tensor in node.input_tensors):
            continue  # Leads only to tensors that are known already.
        args, kwargs = node.arguments.fill_in(values)
        outputs = call_layer(node.operation, args, kwargs, training=training)
        values.update(zip(map(id, node.outputs), keras.tree.flatten(outputs), strict=True))
    return values[id(model.outputs[0])]


def call_layer(
    operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, training: bool | None
) -> Any:
    """Calls a layer or operation inside a model; `training` wins over what the graph recorded."""
    if training is not None and "training" in inspect.signature(operation.call).parameters:
        kwargs = {**kwargs, "training": training}
    return operation(*args, **kwargs)


def _function_of(layer: keras.Layer) -> Any:
    """The object that holds a model's graph: a Sequential model keeps a functional one inside."""
    function = getattr(layer, "_functional", layer)
    return function if hasattr(function, "_nodes_by_depth") else None
