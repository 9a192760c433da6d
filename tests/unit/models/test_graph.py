"""Keras's private names stand in models/graph.py alone, and each of them is still there."""

import ast
from pathlib import Path

import keras
import pytest
from keras import layers

from sharedlayers_dist.models import graph

MODELS = Path(graph.__file__).parent


def names_read(path):
    """The attributes that a module reads, but for those of its own objects (`self._x`)."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def a_model():
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(2, name="dense")(x))


def a_node():
    return a_model().get_layer("dense")._inbound_nodes[0]


WHERE = {
    "_inbound_nodes": lambda: layers.Dense(2),
    "_nodes_by_depth": a_model,
    "_functional": lambda: keras.Sequential([keras.Input((3,)), layers.Dense(2)]),
    "_flatten_layers": lambda: layers.Dense(2),
    "operation": a_node,
    "arguments": a_node,
    "args": lambda: a_node().arguments,
    "kwargs": lambda: a_node().arguments,
    "outputs": a_node,
}
"""Names that Keras does not promise, and what has them."""


@pytest.mark.parametrize("name", WHERE)
def test_this_keras_has_the_private_name(name):
    assert hasattr(WHERE[name](), name), f"Keras {keras.__version__} has no {name}; see graph.py."


def test_private_names_of_keras_stand_in_the_graphs_module_alone():
    """Also `getattr(layer, "_functional")`, so any text of the module counts."""
    private = {name for name in names_read(MODELS / "graph.py") if name.startswith("_")}
    assert private | {"_functional"} == {name for name in WHERE if name.startswith("_")}
    of_nodes = {"operation", "arguments", "input_tensors", "output_tensors", "parent_nodes"}
    for path in MODELS.glob("*.py"):
        if path.name != "graph.py":
            found = names_read(path)
            assert not {name for name in found if name[0] == "_" and name[:2] != "__"}, path
            assert not found & of_nodes, path
            assert not [name for name in WHERE if name[0] == "_" and name in path.read_text()], path


def test_a_call_says_what_keras_recorded():
    x, y = keras.Input((3,)), keras.Input((3,))
    attention = layers.Dense(3)
    attention(x)
    attention(y, training=False)
    first, second = graph.calls_of_layer(attention)
    assert (first.index, second.index) == (0, 1)
    assert first.inputs == [x]
    assert second.called_on is y
    assert second.kwargs == {"training": False}
    assert second.fill_in({id(y): "value"}) == (("value",), {"training": False})
    (begin,) = graph.calls_of_layer(keras.Model(x, x).layers[0])
    assert begin.is_input
    assert not first.is_input
