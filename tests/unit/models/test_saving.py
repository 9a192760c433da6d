"""A saved model shares its layers when loaded, here and in plain Keras without this package."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from sharedlayers_dist import models
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
    assert models.find_encoder(loaded).layer is shared.layer

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
