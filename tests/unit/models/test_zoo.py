"""The five models: what the notebook's cells state of them, saved and loaded, and Keras's settings.

A saved model shares its layers when loaded, here and in plain Keras without this package.
"""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras.layers import Conv2D

from sharedlayers_dist import models
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.heads import HEADS

PLAIN_KERAS = textwrap.dedent(
    """
    import sys
    sys.modules["sharedlayers_dist"] = None  # Makes any import of it fail.
    import keras, numpy as np
    for folder in sys.argv[1:]:
        model = keras.models.load_model(f"{folder}/model.keras")
        pair = np.load(f"{folder}/pair.npz")
        np.save(f"{folder}/score.npy", model([pair["a"], pair["b"]]))
    """
)


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


def batch(shape, rows=5):
    rng = np.random.default_rng(1)
    a, b = rng.random((2, rows, *shape), dtype="float32")
    return [a, b], rng.integers(0, 2, (rows, 1)).astype("float32")


@pytest.mark.parametrize(
    ("name", "head", "encoder", "num_shared_weights"),
    [
        ("tweet_pair", "concatenation", "shared_lstm", 3),
        ("digit_pair", "absolute_difference", "vision_model", 4),
        ("digit_pair", "cosine", "vision_model", 4),
    ],
)
def test_a_loaded_model_still_shares(name, head, encoder, num_shared_weights, tmp_path):
    model = models.build(name, head=head)
    pairs, labels = batch(model.input_shape[0][1:])
    model.train_on_batch(pairs, labels)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    (shared,) = models.shared_layers(loaded)
    assert shared.layer is loaded.get_layer(encoder)
    assert shared.calls == (("a",), ("b",))
    assert models.get_input_at(shared.layer, 0) is loaded.inputs[0]
    assert models.get_input_at(shared.layer, 1) is loaded.inputs[1]
    assert len(shared.layer.weights) == num_shared_weights
    assert len(loaded.weights) == len(model.weights) == num_shared_weights + 2
    found = models.find_encoder(loaded)
    assert found is not None
    assert found.layer is shared.layer

    before = [w.numpy() for w in loaded.weights]
    for either in (model, loaded):
        either.train_on_batch(pairs, labels)
    for old, kept, read in zip(before, model.weights, loaded.weights, strict=True):
        np.testing.assert_allclose(read, kept, rtol=1e-6, atol=1e-7)
        # Between the sides' encodings the biases of a linear encoder cancel, and do not move.
        assert old.ndim == 1 or np.abs(read.numpy() - old).max() > 1e-5


def test_saved_models_open_in_plain_keras_without_this_package(tmp_path):
    expected = {}
    for name, head in [("tweet_pair", "concatenation"), *(("digit_pair", head) for head in HEADS)]:
        model = models.build(name, head=head)
        (a, b), _ = batch(model.input_shape[0][1:], rows=2)
        folder = tmp_path / f"{name}_{head}"
        folder.mkdir()
        model.save(folder / "model.keras")
        np.savez(folder / "pair.npz", a=a, b=b)
        expected[folder] = model([a, b]).numpy()
    subprocess.run(
        [sys.executable, "-c", PLAIN_KERAS, *map(str, expected)],
        cwd=tmp_path,
        check=True,
        timeout=200,
    )
    for folder, scores in expected.items():
        np.testing.assert_allclose(np.load(folder / "score.npy"), scores, rtol=1e-5)


@pytest.mark.parametrize("name", ["shared_conv", "residual", "inception"])
def test_the_models_without_pairs_are_saved_and_loaded(name, tmp_path):
    model = models.build(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.output_shape == model.output_shape
    assert [x.calls for x in models.shared_layers(loaded)] == [
        x.calls for x in models.shared_layers(model)
    ]
    for kept, read in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(read, kept)


@pytest.mark.usefixtures("mixed_precision")
@pytest.mark.parametrize("name", models.names())
def test_the_zoo_gives_full_precision(name):
    assert {tensor.dtype for tensor in models.build(name).outputs} == {"float32"}


@pytest.mark.parametrize("name", models.names())
def test_channels_first_is_refused_rather_than_built_otherwise(name):
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(UserError, match=r"channels last. Received: .*channels_first"):
            models.build(name)
    finally:
        keras.config.set_image_data_format("channels_last")
