import keras
import numpy as np
import pytest
from keras import layers

from sharedlayers_dist import models


def shared(model):
    return {x.layer.name: x.calls for x in models.shared_layers(model)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tweet_pair", {"shared_lstm": (("a",), ("b",))}),
        ("digit_pair", {"vision_model": (("a",), ("b",))}),
        ("inception", {}),
        ("residual", {}),
    ],
)
def test_what_the_zoo_shares(name, expected):
    assert shared(models.build(name)) == expected


def test_a_shared_convolution_is_listed_with_both_inputs():
    (conv,) = models.shared_layers(models.build("shared_conv"))
    assert isinstance(conv.layer, layers.Conv2D)
    assert conv.calls == (("c",), ("d",))


def test_calls_that_belong_to_other_models_do_not_count():
    dense = layers.Dense(2, name="shared")
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    keras.Model(a, dense(a))
    encoded_a, encoded_b = dense(a), dense(b)
    assert shared(keras.Model(a, encoded_a)) == {}
    assert shared(keras.Model([a, b], [encoded_a, encoded_b])) == {"shared": (("a",), ("b",))}


def test_a_layer_called_on_what_several_inputs_made_names_them_all():
    dense = layers.Dense(3, name="shared")
    a, b, c = (keras.Input((3,), name=name) for name in "abc")
    model = keras.Model([a, b, c], dense(layers.Add()([dense(a), b, layers.ReLU()(c)])))
    assert shared(model) == {"shared": (("a",), ("a", "b", "c"))}


def test_models_that_are_used_once_are_looked_into():
    inner = models.pair_classifier(keras.Sequential([keras.Input((3,)), layers.Dense(2)]))
    (encoder,) = (x.layer for x in models.shared_layers(inner))
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    by_list = keras.Model([left, right], inner([left, right]))
    assert shared(by_list) == {encoder.name: (("left",), ("right",))}
    by_name = keras.Model([left, right], inner({"b": left, "a": right}))
    assert shared(by_name) == {encoder.name: (("right",), ("left",))}


def listed(x, y):
    return [x, y]


def inner_model(structure):
    """Runs `dense` on x, then on y; made with `structure` of its inputs."""
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y")
    dense = layers.Dense(2, name="dense")
    return keras.Model(structure(x, y), [dense(x), layers.ReLU()(dense(y))])


@pytest.mark.parametrize(
    ("structure", "call"),
    [
        (lambda x, y: {"x": x, "y": y}, lambda model, a, b: model({"x": b, "y": a})),
        (lambda x, y: {"left": x, "right": y}, lambda model, a, b: model({"right": a, "left": b})),
        (lambda x, y: {"right": x, "left": y}, lambda model, a, b: model({"right": b, "left": a})),
        (lambda x, y: {"both": [x, y]}, lambda model, a, b: model({"both": [b, a]})),
        (lambda x, y: (x, y), lambda model, a, b: model((b, a))),
        (listed, lambda model, a, b: model([b, a])),
        (listed, lambda model, a, b: model({"y": a, "x": b})),
        (listed, lambda model, a, b: model({"y": a, "x": b, "z": a})),
        (listed, lambda model, a, b: model(inputs=[b, a], training=False)),
        (listed, lambda model, a, b: model([b, a], mask=[None, None])),
        (lambda x, y: {"left": x, "right": y}, lambda model, a, b: model(inputs=[b, a])),
    ],
)
@pytest.mark.filterwarnings("ignore:(?s).*(must match the names|structure of `inputs`)")
def test_inputs_of_a_nested_model_are_told_apart_however_it_was_called(structure, call):
    inner = inner_model(structure)
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    outer = keras.Model([a, b], call(inner, a, b))
    assert shared(outer) == {"dense": (("b",), ("a",))}
    # Keras itself takes them in the same way: x is b.
    ones, zeros = np.ones((1, 3), "float32"), np.zeros((1, 3), "float32")
    of_x, of_y = outer([zeros, ones])
    assert np.any(of_x != 0)
    assert not np.any(of_y)


@pytest.mark.filterwarnings("ignore:(?s).*must match the names")
def test_outputs_and_constants_of_nested_models_are_followed():
    """What was seen: KeyError for inputs that are named otherwise than the dictionary's keys."""
    inner = inner_model(lambda x, y: {"left": x, "right": y})
    dense = layers.Dense(2, name="outer")
    a = keras.Input((3,), name="a")
    of_left, of_right = inner({"left": a, "right": keras.ops.ones((1, 3))})
    model = keras.Model(a, layers.Add()([dense(of_right), dense(of_left)]))
    assert shared(model) == {"dense": (("a",), ()), "outer": ((), ("a",))}


def test_a_layer_inside_a_shared_model_is_listed_if_it_is_also_called_elsewhere():
    dense = layers.Dense(3, name="dense")
    encoder = keras.Sequential([keras.Input((3,)), dense], name="encoder")
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    both = [encoder(a), encoder(b)]
    assert shared(keras.Model([a, b], both)) == {"encoder": (("a",), ("b",))}
    assert shared(keras.Model([a, b], [*both, dense(b)])) == {
        "encoder": (("a",), ("b",)),
        "dense": (("a",), ("b",), ("b",)),
    }


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for model in (Subclassed(), keras.Sequential([layers.Dense(2)])):
        with pytest.raises(ValueError, match=r"must be functional.*Received: model="):
            models.shared_layers(model)
