"""Every output cell of the notebook that states a shape or an error."""

import keras
import numpy as np
import pytest
from keras.layers import LSTM, Conv2D, Input

from sharedlayers_dist import models


def test_tweet_pair_is_the_notebooks_model():
    model = models.build("tweet_pair")
    assert [(x.name, x.shape) for x in model.inputs] == [
        ("a", (None, 280, 256)),
        ("b", (None, 280, 256)),
    ]
    assert model.output_shape == (None, 1)
    assert [type(layer).__name__ for layer in model.layers] == [
        "InputLayer",
        "InputLayer",
        "LSTM",
        "Concatenate",
        "Dense",
    ]
    lstm, concatenate, dense = model.layers[2:]
    assert models.get_output_shape_at(lstm, 0) == models.get_output_shape_at(lstm, 1) == (None, 64)
    assert models.get_output_shape_at(concatenate, 0) == (None, 128)
    assert dense.activation is keras.activations.sigmoid
    assert model.count_params() == 4 * 64 * (256 + 64 + 1) + 129
    assert isinstance(model.optimizer, keras.optimizers.RMSprop)
    assert model.loss == "binary_crossentropy"
    zeros = np.zeros((1, 280, 256), "float32")
    assert set(model.test_on_batch([zeros, zeros], np.ones((1, 1)), return_dict=True)) == {
        "loss",
        "accuracy",
    }


def test_an_output_asked_for_before_and_after_sharing():
    a = Input((280, 256))
    lstm = LSTM(32, name="lstm_3")
    encoded_a = lstm(a)
    assert models.get_output(lstm) is encoded_a
    assert encoded_a.shape == (None, 32)

    b = Input((280, 256))
    encoded_b = lstm(b)
    with pytest.raises(models.AmbiguousNodeError) as error:
        models.get_output(lstm)
    assert str(error.value) == (
        'Layer lstm_3 has multiple inbound nodes, hence the notion of "layer output" is '
        "ill-defined. Use `get_output_at(node_index)` instead."
    )
    assert isinstance(error.value, AttributeError)
    with pytest.raises(models.AmbiguousNodeError, match=r'"layer input".*get_input_at'):
        models.get_input(lstm)
    assert models.get_output_at(lstm, 0) is encoded_a
    assert models.get_output_at(lstm, 1) is encoded_b
    assert [models.get_output_shape_at(lstm, i) for i in (0, 1)] == [(None, 32)] * 2
    assert models.get_input_at(lstm, 0) is a
    assert models.get_input_at(lstm, 1) is b


def test_one_convolution_on_two_sizes():
    model = models.build("shared_conv")
    (conv,) = (layer for layer in model.layers if isinstance(layer, Conv2D))
    assert models.get_input_shape_at(conv, 0) == (None, 32, 32, 3)
    assert models.get_input_shape_at(conv, 1) == (None, 64, 64, 3)
    assert models.get_output_shape_at(conv, 0) == (None, 32, 32, 16)
    assert models.get_output_shape_at(conv, 1) == (None, 64, 64, 16)
    assert model.output_shape == [(None, 32, 32, 16), (None, 64, 64, 16)]
    assert model.count_params() == 3 * 3 * 3 * 16 + 16


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (None, 768, 256, 64)), ({"axis": -1}, (None, 256, 256, 192))],
)
def test_inception_concatenates_along_the_axis_asked_for(options, shape):
    model = models.build("inception", **options)
    assert model.input_shape == (None, 256, 256, 3)
    assert model.output_shape == shape
    towers = models.get_input(model.layers[-1])
    assert [tower.shape for tower in towers] == [(None, 256, 256, 64)] * 3
    kernels = sorted(tuple(x.kernel.shape) for x in model.layers if isinstance(x, Conv2D))
    assert kernels == [(1, 1, 3, 64)] * 3 + [(3, 3, 64, 64), (5, 5, 64, 64)]
    assert all(x.padding == "same" for x in model.layers if isinstance(x, Conv2D))


def test_residual_adds_the_convolution_to_its_input():
    model = models.build("residual")
    x, y = models.get_input(model.layers[-1])
    assert x is model.inputs[0]
    assert x.shape == y.shape == model.output_shape == (None, 256, 256, 3)
    model.layers[1].kernel.assign(keras.ops.zeros((3, 3, 3, 3)))
    image = keras.random.uniform((1, 256, 256, 3))
    assert keras.ops.all(model(image) == image)


def test_digit_pair_shares_a_whole_model():
    model = models.build("digit_pair")
    vision_model = model.get_layer("vision_model")
    assert [x.name for x in model.inputs] == ["a", "b"]
    assert model.input_shape == [(None, 27, 27, 1)] * 2
    assert model.output_shape == (None, 1)
    assert vision_model.input_shape == (None, 27, 27, 1)
    pooling, flatten = vision_model.layers[-2:]
    assert models.get_output(pooling).shape == (None, 11, 11, 64)
    assert models.get_output(flatten).shape == (None, 11 * 11 * 64)
    convolutions = [x for x in vision_model.layers if isinstance(x, Conv2D)]
    assert [x.activation for x in convolutions] == [keras.activations.linear] * 2
    # Making the vision model adds no node: node 0 is the first call on a digit.
    assert models.get_input_at(vision_model, 0) is model.inputs[0]
    assert models.get_input_at(vision_model, 1) is model.inputs[1]
    assert [models.get_output_shape_at(vision_model, i) for i in (0, 1)] == [(None, 7744)] * 2
    (concatenate,) = (x for x in model.layers if isinstance(x, keras.layers.Concatenate))
    assert models.get_output(concatenate).shape == (None, 2 * 7744)
    assert model.count_params() == 640 + 36_928 + 2 * 7744 + 1
    assert model.loss == "binary_crossentropy"
