"""Which layers of a model are shared, and by which of its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import keras

from sharedlayers_dist.models.graph import calls_in_model, has_graph, tensors_for_inputs


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedLayer:
    """A layer that a model calls several times, with the same weights each time.

    Example:
        >>> dense = keras.layers.Dense(2, name="dense")
        >>> SharedLayer(layer=dense, calls=(("a",), ("b",))).calls[1]
        ('b',)
    """

    layer: keras.Layer
    calls: tuple[tuple[str, ...], ...]
    """For each call, in the order of the layer's nodes: the model inputs that reach it."""


def shared_layers(model: keras.Model) -> list[SharedLayer]:
    """Lists what `model` shares, in the order in which it is run.

    A layer is shared when it was called at two places or more of this model's graph; calls that
    belong to other models do not count. Where a whole model is used several times, that model is
    what is shared, and the layers inside it are listed only if they are also called elsewhere.
    Models that are used once are looked into.

    Args:
        model: A functional model, made here, by hand, or loaded from a file.

    Raises:
        UserError: for a model that is not functional.

    Example:
        >>> item = keras.Input((5,), name="item")
        >>> encoder = keras.Model(item, keras.layers.Dense(2)(item), name="encoder")
        >>> a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
        >>> model = keras.Model([a, b], keras.layers.Dot(1)([encoder(a), encoder(b)]))
        >>> [(shared.layer.name, shared.calls) for shared in shared_layers(model)]
        [('encoder', (('a',), ('b',)))]
    """
    calls_in_model(model)  # Refuses a model without a graph before its inputs are asked for.
    names = [tensor.name for tensor in model.inputs]
    runs = _Runs()
    runs.follow(model, [{name} for name in names])
    shared = []
    for layer, runs_of_layer in runs.of_layer.items():
        if len({run.path[-1] for run in runs_of_layer}) < 2:
            continue
        in_order = sorted(runs_of_layer, key=lambda run: (run.path[-1], run.path))
        calls = (tuple(name for name in names if name in run.reached_by) for run in in_order)
        shared.append(SharedLayer(layer=layer, calls=tuple(calls)))
    return shared


class _Run(NamedTuple):
    """One run of a layer while a model is run once."""

    path: tuple[int, ...]
    """Index of the layer's node, after those of the models around it, outermost first."""
    reached_by: set[str]
    """Names of the model inputs that reach this run."""


@dataclass
class _Runs:
    """Every run of every layer inside a model, at any depth."""

    of_layer: dict[keras.Layer, list[_Run]] = field(default_factory=dict)

    def follow(
        self, model: keras.Model, reaching_inputs: list[set[str]], path: tuple[int, ...] = ()
    ) -> list[set[str]]:
        """Notes all runs in `model`; returns by which outer inputs each output is reached."""
        reaching = dict(zip(map(id, model.inputs), reaching_inputs, strict=True))
        for call in calls_in_model(model):
            if call.is_input:
                continue
            names = set().union(*(reaching[id(tensor)] for tensor in call.inputs))
            names_of_outputs = [names] * len(call.outputs)
            if isinstance(call.layer, keras.Layer):
                run = _Run((*path, call.index), names)
                self.of_layer.setdefault(call.layer, []).append(run)
                if has_graph(call.layer):
                    # A constant is reached by no input.
                    given = [reaching.get(id(x), set()) for x in tensors_for_inputs(call)]
                    names_of_outputs = self.follow(call.layer, given, run.path)
            reaching.update(zip(map(id, call.outputs), names_of_outputs, strict=True))
        return [reaching[id(tensor)] for tensor in model.outputs]
