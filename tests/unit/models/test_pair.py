import keras
import numpy as np
import pytest
from keras import layers

from sharedlayers_dist import models
from sharedlayers_dist.models.heads import HEADS


def logit(model, a, b):
    score = model([a, b]).numpy().astype("float64")
    return np.log(score) - np.log1p(-score)


@pytest.mark.parametrize("head", [head for head in HEADS if head != "concatenation"])
def test_a_symmetric_head_gives_both_orders_the_same_score(small_encoder, items, head):
    model = models.pair_classifier(small_encoder, head)
    a, b = items[:2]
    np.testing.assert_array_equal(model([a, b]), model([b, a]))
    assert np.ptp(model([a, b])) > 1e-3


def test_the_notebooks_head_is_not_symmetric(small_encoder, items):
    model = models.pair_classifier(small_encoder)
    a, b = items[:2]
    assert np.abs(model([a, b]) - model([b, a])).max() > 1e-3


@pytest.mark.parametrize("head", HEADS)
def test_only_the_notebooks_head_is_additive_in_the_two_sides(small_encoder, items, head):
    model = models.pair_classifier(small_encoder, head)
    a, b, c, d = items
    together = logit(model, a, b) + logit(model, c, d)
    crossed = logit(model, a, d) + logit(model, c, b)
    assert (np.abs(together - crossed).max() < 1e-5) == (head == "concatenation")


@pytest.mark.parametrize(("head", "learns"), [(head, head != "concatenation") for head in HEADS])
def test_only_a_comparing_head_learns_same_or_not(head, learns):
    """Two groups, all four combinations equally often: the smallest form of "the same author"."""
    x, y = np.eye(2, dtype="float32")
    a, b = np.stack([x, x, y, y]), np.stack([x, y, x, y])
    same = np.array([[1], [0], [0], [1]], "float32")
    encoder = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
    model = models.pair_classifier(encoder, head)
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
    for _ in range(150):
        model.train_on_batch([a, b], same)
    scores = model.predict_on_batch([a, b])
    loss = model.test_on_batch([a, b], same)
    chance = float(np.log(2))
    if learns:
        assert loss < 0.5 * chance
        assert scores[same == 1].min() > scores[same == 0].max()
    else:
        assert loss > 0.99 * chance


@pytest.mark.parametrize(
    ("head", "num_weights"),
    [
        ("concatenation", 9),
        ("absolute_difference", 5),
        ("cosine", 2),
        ("scaled_cosine", 2),
        ("comparison", 132 * 4 + 129),
    ],
)
def test_heads_have_the_weights_they_say(small_encoder, head, num_weights):
    model = models.pair_classifier(small_encoder, head)
    assert model.count_params() - small_encoder.count_params() == num_weights


@pytest.mark.parametrize(("head", "scale", "bias"), [("cosine", 1, 0), ("scaled_cosine", 10, -5)])
def test_cosine_is_a_logistic_regression_on_the_cosine(small_encoder, items, head, scale, bias):
    model = models.pair_classifier(small_encoder, head)
    encoded_a, encoded_b = small_encoder(items[0]).numpy(), small_encoder(items[1]).numpy()
    norms = np.linalg.norm(encoded_a, axis=1) * np.linalg.norm(encoded_b, axis=1)
    similarity = (encoded_a * encoded_b).sum(axis=1) / norms
    np.testing.assert_allclose(
        logit(model, items[0], items[1])[:, 0], scale * similarity + bias, rtol=1e-4, atol=1e-4
    )


def test_a_keras_layer_or_model_may_be_the_head(small_encoder, items):
    model = models.pair_classifier(small_encoder, layers.Subtract())
    np.testing.assert_array_equal(model([items[0], items[0]]), np.zeros((7, 4)))
    x, y = keras.Input((4,)), keras.Input((4,))
    bilinear = keras.Model([x, y], layers.Dot(axes=1)([layers.Dense(4)(x), y]))
    assert models.pair_classifier(small_encoder, bilinear).output_shape == (None, 1)


def called(layer, shape):
    layer(keras.Input(shape))
    return layer


@pytest.mark.parametrize(
    ("make_encoder", "shape", "dtype"),
    [
        (lambda: called(layers.LSTM(3), (6, 5)), (None, 6, 5), "float32"),
        (lambda: called(keras.Sequential([layers.LSTM(3)]), (6, 5)), (None, 6, 5), "float32"),
        (
            lambda: keras.Sequential(
                [keras.Input((6,), dtype="int32"), layers.Embedding(9, 2), layers.Flatten()]
            ),
            (None, 6),
            "int32",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((4, 4, 1), dtype="uint8"), layers.Rescaling(1.0), layers.Flatten()]
            ),
            (None, 4, 4, 1),
            "uint8",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((None, 5), dtype="float64"), layers.GlobalMaxPooling1D()]
            ),
            (None, None, 5),
            "float64",
        ),
    ],
)
def test_the_inputs_are_those_of_the_encoder(make_encoder, shape, dtype):
    model = models.pair_classifier(make_encoder())
    assert [(x.name, x.shape, x.dtype) for x in model.inputs] == [
        ("a", shape, dtype),
        ("b", shape, dtype),
    ]
    assert model.output_shape == (None, 1)


def two_inputs():
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="y")
    return keras.Model([x, y], layers.Add()([x, y]))


def two_outputs():
    x = keras.Input((3,))
    return keras.Model(x, [x, layers.Dense(2)(x)])


@pytest.mark.parametrize(
    ("make_encoder", "options", "message"),
    [
        (lambda: np.tanh, {}, r"must be a Keras model or layer. Received: encoder=<ufunc"),
        (lambda: layers.LSTM(3), {}, r"must know the shape.*encoder=<LSTM.*encoder.build"),
        (lambda: keras.Sequential([layers.LSTM(3)]), {}, r"must know the shape"),
        (two_inputs, {}, r"must have one input.*\['x', 'y'\]"),
        (two_outputs, {}, r"must have one output.*2 outputs"),
        (lambda: called(layers.LSTM(3, return_state=True), (6, 5)), {}, "one output.*3 outputs"),
        (
            lambda: called(layers.LSTM(3, return_sequences=True), (6, 5)),
            {},
            r"output shape \(None, 6, 3\).*Flatten",
        ),
        (
            lambda: called(layers.LSTM(3), (6, 5)),
            {"head": "sum"},
            r"one of concatenation, absolute_difference, cosine.*Received: head='sum'",
        ),
        (lambda: called(layers.LSTM(3), (6, 5)), {"head": None}, "Received: head=None"),
    ],
)
def test_what_cannot_be_a_pair_model_is_refused(make_encoder, options, message):
    with pytest.raises(ValueError, match=message):
        models.pair_classifier(make_encoder(), **options)


def test_the_encoder_is_found_in_models_written_by_hand_and_only_there():
    lstm = layers.LSTM(3)
    a, b, c = (keras.Input((6, 5)) for _ in range(3))
    merged = layers.Concatenate()([lstm(a), lstm(b)])
    model = keras.Model([a, b], layers.Dense(1)(merged))
    found = models.find_encoder(model)
    assert found is not None
    assert found.layer is lstm
    assert found.encoded == (models.get_output_at(lstm, 0), models.get_output_at(lstm, 1))
    swapped = models.find_encoder(keras.Model([b, a], layers.Dense(1)(merged)))
    assert swapped is not None
    assert swapped.encoded == found.encoded[::-1]

    three = layers.Concatenate()([lstm(a), lstm(b), lstm(c)])
    assert models.find_encoder(keras.Model([a, b, c], three)) is None
    thrice = layers.Concatenate()([lstm(a), lstm(b), lstm(a)])
    assert models.find_encoder(keras.Model([a, b], thrice)) is None
    apart = layers.Concatenate()([layers.LSTM(3)(a), layers.LSTM(3)(b)])
    assert models.find_encoder(keras.Model([a, b], apart)) is None
    dense = layers.Dense(2)
    chained = layers.Concatenate()([dense(lstm(a)), dense(lstm(b))])
    assert models.find_encoder(keras.Model([a, b], chained)) is None
    flagged = layers.Concatenate()([lstm(a, training=True), lstm(b)])
    assert models.find_encoder(keras.Model([a, b], flagged)) is None
