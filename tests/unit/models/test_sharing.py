import keras
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
