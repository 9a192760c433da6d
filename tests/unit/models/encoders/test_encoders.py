"""What holds of every encoder: its shapes, its files, its learning, its place in a pair model."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from sharedlayers_dist import models
from sharedlayers_dist.models import encoders
from sharedlayers_dist.models.graph import layers_within
from sharedlayers_dist.models.independence import keeps_rows_apart

TEXT = ("character_cnn", "character_gru", "character_transformer")
ROWS = 6
SMALL: dict[str, dict] = {
    "character_cnn": {"length": 24, "filters": 8, "size": 16},
    "character_gru": {"length": 24, "units": 8, "size": 16},
    "character_transformer": {"length": 24, "num_blocks": 1, "size": 16},
    "residual_cnn": {"channels": (8, 16), "size": 16},
}
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


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


def small(name, **options):
    return getattr(encoders, name)(**SMALL[name], **options)


def draw(name, rows=ROWS, seed=0):
    """Items as batches carry them: ids of texts of all lengths, and images of 8-bit pixels."""
    rng = np.random.default_rng(seed)
    if name == "residual_cnn":
        return rng.integers(0, 256, (rows, 8, 8, 1)).astype("uint8")
    ids = rng.integers(1, 257, (rows, 24)).astype("uint16")
    ids[np.arange(24) < rng.integers(0, 20, (rows, 1))] = 0
    return ids


def as_input(items):
    return items / np.float32(255) if items.dtype == np.uint8 else items.astype("int32")


def test_each_is_a_function_of_its_name_and_gives_one_vector(name):
    encoder = small(name)
    assert encoder.name == name
    assert encoder.output_shape == (None, 16)
    (item,) = encoder.inputs
    assert item.dtype == ("float32" if name == "residual_cnn" else "int32")
    assert encoder(as_input(draw(name))).shape == (ROWS, 16)


@pytest.mark.parametrize("name", models.names()[5:])
def test_the_default_models_are_built_small_and_uncompiled(name):
    model = models.build(name)
    assert not model.compiled
    assert model.output_shape == (None, 1)
    assert model.count_params() < 500_000
    assert models.info(name).kind == ("image" if "residual" in name else "text")


def test_each_is_made_of_layers_that_keep_the_rows_of_a_batch_apart(name):
    """So both sides of a batch may be encoded in one call; and no statistics are of a batch."""
    encoder = small(name)
    assert keeps_rows_apart(encoder)
    items = as_input(draw(name))
    one_by_one = np.concatenate([encoder(items[i : i + 1]) for i in range(ROWS)])
    np.testing.assert_allclose(encoder(items), one_by_one, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight_and_are_finite_also_for_nothing_but_padding(name):
    import tensorflow as tf

    model = models.pair_classifier(small(name), "scaled_cosine")
    a, b = (as_input(draw(name, seed=seed)) for seed in (1, 2))
    a[0] = 0
    with tf.GradientTape() as tape:
        scores = model([a, b], training=True)
        loss = keras.ops.mean(
            keras.losses.binary_crossentropy(np.tile([[0.0], [1.0]], (3, 1)), scores)
        )
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all(), variable.path
        assert np.abs(values).max() > 0, variable.path


def test_one_batch_is_learnt(name):
    """Random items, in which nothing but the labels says which belong together."""
    model = models.compact_view(models.pair_classifier(small(name, dropout=0.0), "scaled_cosine"))
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    x = {"a": draw(name, rows=8, seed=1), "b": draw(name, rows=8, seed=2)}
    labels = np.tile([[0.0], [1.0]], (4, 1))
    first = model.test_on_batch(x, labels)
    for _ in range(60):
        model.train_on_batch(x, labels)
    assert model.test_on_batch(x, labels) < 0.1 < first


def test_the_compact_view_gives_the_same_scores(name):
    model = models.pair_classifier(small(name), "comparison")
    a, b = draw(name, seed=1), draw(name, seed=2)
    scores = models.compact_view(model)({"a": a, "b": b})
    np.testing.assert_allclose(scores, model([as_input(a), as_input(b)]), rtol=1e-4, atol=1e-6)


def test_saved_models_open_in_plain_keras_without_this_package(tmp_path):
    expected = {}
    for name in SMALL:
        model = models.pair_classifier(small(name), "comparison")
        a, b = (as_input(draw(name, seed=seed)) for seed in (1, 2))
        folder = tmp_path / name
        folder.mkdir()
        model.save(folder / "model.keras")
        np.savez(folder / "pair.npz", a=a, b=b)
        expected[folder] = model([a, b]).numpy()
    subprocess.run([sys.executable, "-c", PLAIN_KERAS, *expected], check=True, timeout=200)
    for folder, scores in expected.items():
        np.testing.assert_allclose(np.load(folder / "score.npy"), scores, rtol=1e-5)


def test_a_loaded_model_still_shares_its_encoder(name, tmp_path):
    model = models.pair_classifier(small(name), "scaled_cosine")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found = models.find_encoder(loaded)
    assert found is not None
    assert found.layer.name == name
    assert [shared.calls for shared in models.shared_layers(loaded)] == [(("a",), ("b",))]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_encodings_finite(name, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = models.pair_classifier(small(name), "scaled_cosine")
    finally:
        keras.config.set_dtype_policy("float32")
    a = as_input(draw(name))
    a[0] = 0
    scores = model([a, a[::-1]]).numpy()
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def padded(ids, before, after):
    return np.pad(ids, ((0, 0), (before, after)))


@pytest.mark.parametrize("name", TEXT)
@pytest.mark.parametrize(("before", "after"), [(8, 0), (0, 8), (16, 24)])
def test_padding_does_not_change_the_encoding_of_a_text(name, before, after):
    short = small(name)
    rng = np.random.default_rng(0)  # New biases are zero, and would hide what they add at padding.
    short.set_weights([weight + rng.normal(0, 0.1, weight.shape) for weight in short.get_weights()])
    long = getattr(encoders, name)(**SMALL[name] | {"length": 24 + before + after})
    long.set_weights(short.get_weights())
    ids = as_input(draw(name))
    np.testing.assert_allclose(long(padded(ids, before, after)), short(ids), rtol=1e-4, atol=1e-5)
    assert np.ptp(short(ids), axis=0).min() > 1e-3  # They are not all the same anyway.


def test_a_loaded_encoder_leaves_nothing_to_cudnn(name, tmp_path):
    """On a GPU cuDNN refuses masks of padding in front, and `use_cudnn=False` is not saved."""
    small(name).save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    assert not [x.name for x in layers_within(loaded) if getattr(x, "use_cudnn", False)]


def test_the_gru_is_that_of_keras():
    encoder = small("character_gru")
    (own,) = [x for x in encoder.layers if isinstance(x, keras.layers.Bidirectional)]
    of_keras = keras.layers.Bidirectional(keras.layers.GRU(8, return_sequences=True))
    rng = np.random.default_rng(0)
    vectors, mask = rng.normal(size=(ROWS, 24, 32)).astype("float32"), draw("character_gru") > 0
    of_keras.build(vectors.shape)
    of_keras.set_weights(own.get_weights())
    np.testing.assert_allclose(
        own(vectors, mask=mask), of_keras(vectors, mask=mask), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (64, 64, 3), (27, 27, 1)])
def test_images_of_any_size_are_encoded_with_the_same_weights(shape):
    encoder = small("residual_cnn", shape=(None, None, shape[-1]))
    fixed = small("residual_cnn", shape=shape)
    fixed.set_weights(encoder.get_weights())
    images = np.random.default_rng(0).random((2, *shape), dtype="float32")
    np.testing.assert_allclose(encoder(images), fixed(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("character_cnn", {"widths": ()}, r"widths of 1 character and more.*widths=\(\)"),
        ("character_cnn", {"widths": (3, 0)}, r"Received: widths=\(3, 0\)"),
        ("character_cnn", {"filters": 0}, "`filters` must be at least 1. Received: filters=0"),
        ("character_cnn", {"length": 0}, "`length` must be at least 1"),
        ("character_gru", {"units": 0}, "`units` must be at least 1"),
        ("character_transformer", {"num_heads": 3}, "`size` must be a multiple of `num_heads`"),
        ("character_transformer", {"length": 30}, "Received: length=30, patch=4"),
        ("residual_cnn", {"channels": (12,)}, r"multiples of 8.*channels=\(12,\)"),
        ("residual_cnn", {"channels": ()}, r"Received: channels=\(\)"),
        ("residual_cnn", {"size": 0}, "`size` must be at least 1"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(encoders, name)(**options)
