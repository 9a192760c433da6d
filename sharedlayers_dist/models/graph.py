"""The graph of calls inside a functional model; the one place that reads Keras's private names.

Keras records each symbolic call of a layer as a *node*: the tensors it was called on and those it
gave. A layer keeps its own nodes in the order of its calls, over all models; a model's graph is
those nodes that lie between its inputs and its outputs. Here a node is a `Call`: plain values, so
that no other module knows what Keras calls them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from sharedlayers_dist.errors import UserError


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Call:
    """One symbolic call of a layer or operation."""

    layer: Any
    """What was called: a layer, a model, or a bare operation of `keras.ops`."""
    index: int
    """Which of the layer's calls this is, over all models; 0 is the first."""
    args: tuple[Any, ...]
    """The positional arguments, structures of tensors and other values."""
    kwargs: Mapping[str, Any]
    """The keyword arguments."""
    outputs: tuple[keras.KerasTensor, ...]
    """The tensors that it gave, a structure of them end to end."""

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The tensors among its arguments, in the order in which Keras flattens them."""
        return [value for value in keras.tree.flatten((self.args, self.kwargs)) if is_symbol(value)]

    @property
    def is_input(self) -> bool:
        """Whether this is where a model begins: a call on nothing."""
        return not self.inputs

    @property
    def called_on(self) -> Any:
        """The first argument, given by its place or by its name; None where there is none."""
        if self.args:
            return self.args[0]
        return self.kwargs.get(next(iter(inspect.signature(self.layer.call).parameters), ""))

    def fill_in(self, values: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the value of each tensor, given by its `id`, in its place."""

        def value_of(argument: Any) -> Any:
            return values[id(argument)] if is_symbol(argument) else argument

        args, kwargs = keras.tree.map_structure(value_of, (self.args, dict(self.kwargs)))
        return args, kwargs


def is_symbol(value: Any) -> bool:
    """Whether `value` is a tensor without numbers: an input, or what a layer gave for one."""
    return isinstance(value, keras.KerasTensor)


def calls_of_layer(layer: keras.Layer) -> list[Call]:
    """The symbolic calls of `layer`, first call first, whichever models they belong to."""
    return [_as_call(node, index) for index, node in enumerate(layer._inbound_nodes)]


def has_graph(layer: keras.Layer) -> bool:
    """Whether `layer` is a functional model, or a Sequential one whose input shape is known."""
    return _function_of(layer) is not None


def calls_in_model(model: keras.Model) -> list[Call]:
    """The calls in `model`'s own graph, each after those it depends on.

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
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [_as_call(node, node.operation._inbound_nodes.index(node)) for node in nodes]


def tensors_for_inputs(call: Call) -> list[Any]:
    """What each input of a model got where the model was called as a layer.

    A dictionary goes by the names of the inputs where the model was made with a list of them, as
    Keras does it. Any other structure is taken as the one that the model was made with.

    Returns:
        For each of `call.layer.inputs` a symbolic tensor, or whatever else was given for it.
    """
    called_on, made_with = call.called_on, _function_of(call.layer).input
    if isinstance(called_on, Mapping) and not isinstance(made_with, Mapping):
        return [called_on[tensor.name] for tensor in call.layer.inputs]
    return keras.tree.flatten(called_on)[: len(call.layer.inputs)]


def structure_of_inputs(call: Call) -> Any:
    """What a layer was called on, as it was given: a tensor, or lists and dictionaries of some."""
    called_on = call.called_on
    leaves = [id(leaf) for leaf in keras.tree.flatten(called_on)]
    # Where further arguments hold tensors too (a layer of attention's), they stand in a list.
    return called_on if leaves == [id(tensor) for tensor in call.inputs] else call.inputs


def structure_of_outputs(call: Call) -> Any:
    """What a call gave: for a model in the structure of its outputs, else a list of tensors."""
    outputs = list(call.outputs)
    made_with = _function_of(call.layer).output if has_graph(call.layer) else outputs
    if len(keras.tree.flatten(made_with)) != len(outputs):
        return outputs  # The model has a `call` of its own.
    return keras.tree.pack_sequence_as(made_with, outputs)


def layers_within(layer: keras.Layer) -> list[keras.Layer]:
    """`layer` and all layers inside it, at any depth."""
    return list(layer._flatten_layers(include_self=True, recursive=True))


def run_graph(model: keras.Model, known: Mapping[int, Any], *, training: bool | None) -> Any:
    """Computes the output of `model` from the values of any tensors that cut its graph.

    Unlike `keras.Model(intermediate, outputs)` it leaves no new nodes on the layers.

    Args:
        model: A functional model with one output.
        known: Values by `id` of the symbolic tensor that they stand for. What depends on them is
            run, what they make superfluous is not.
        training: Passed to every layer that takes it, as Keras does.
    """
    values = dict(known)
    for call in calls_in_model(model):
        if call.is_input or all(id(tensor) in values for tensor in call.outputs):
            continue
        if any(id(tensor) not in values for tensor in call.inputs):
            continue  # Leads only to tensors that are known already.
        args, kwargs = call.fill_in(values)
        outputs = call_layer(call.layer, args, kwargs, training=training)
        values.update(zip(map(id, call.outputs), keras.tree.flatten(outputs), strict=True))
    return values[id(model.outputs[0])]


def gives_output(model: keras.Model, known: Iterable[keras.KerasTensor]) -> bool:
    """Whether the output of `model` follows from these tensors of its graph alone."""
    found = {id(tensor) for tensor in known}
    for call in calls_in_model(model):
        if not call.is_input and all(id(tensor) in found for tensor in call.inputs):
            found.update(map(id, call.outputs))
    return id(model.outputs[0]) in found


def call_layer(
    layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, training: bool | None
) -> Any:
    """Calls a layer or operation inside a model; `training` wins over what the graph recorded."""
    if training is not None and "training" in inspect.signature(layer.call).parameters:
        kwargs = {**kwargs, "training": training}
    return layer(*args, **kwargs)


def _as_call(node: Any, index: int) -> Call:
    return Call(
        layer=node.operation,
        index=index,
        args=tuple(node.arguments.args),
        kwargs=node.arguments.kwargs,
        outputs=tuple(node.outputs),
    )


def _function_of(layer: keras.Layer) -> Any:
    """The object that holds a model's graph: a Sequential model keeps a functional one inside."""
    function = getattr(layer, "_functional", layer)
    return function if hasattr(function, "_nodes_by_depth") else None
