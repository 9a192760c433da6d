import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from sharedlayers_dist import models
from sharedlayers_dist.data.reading.shared_items import make_inputs
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.independence import keeps_rows_apart

LENGTH, LETTERS = 6, 5


def text_pairs(rows=7, letters=LETTERS):
    """Ids with padding in front, and the binary matrices that they stand for."""
    rng = np.random.default_rng(2)
    ids = rng.integers(1, letters + 1, (2, rows, LENGTH)).astype("uint16")
    ids[:, : rows // 2, :2] = 0
    ids[0, 0] = 0
    matrices = np.zeros((*ids.shape, letters), "float32")
    for place in np.argwhere(ids > 0):
        matrices[(*place, ids[tuple(place)] - 1)] = 1
    return dict(zip("ab", ids, strict=True)), dict(zip("ab", matrices, strict=True))


def text_encoder(*inner):
    return keras.Sequential([keras.Input((LENGTH, LETTERS)), *inner])


def loss_and_gradients(model, x, labels, training):
    with tf.GradientTape() as tape:
        scores = model(x, training=training)
        loss = keras.ops.mean(keras.losses.binary_crossentropy(labels, scores))
    gradients = tape.gradient(loss, model.trainable_variables)
    return scores, loss, [tf.convert_to_tensor(x) for x in gradients]


def assert_the_same_function(model, compact_items, items, *, training=False):
    view = models.compact_view(model)
    assert [id(v) for v in view.trainable_variables] == [id(v) for v in model.trainable_variables]
    assert [id(v) for v in view.weights] == [id(v) for v in model.weights]
    labels = np.random.default_rng(3).integers(0, 2, (len(items["a"]), 1)).astype("float32")
    expected = loss_and_gradients(model, items, labels, training)
    plain = models.compact_view(model, fast_paths=False)
    taken = [(view, compact_items), (plain, compact_items)]
    if view.shares_items:
        taken.append((view, make_inputs(*compact_items.values(), shares_items=True)))
    assert not plain.shares_items
    for one, x in taken:
        actual = loss_and_gradients(one, x, labels, training)
        for value, wanted in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-6)
    return view


@pytest.mark.parametrize("head", ["concatenation", "absolute_difference", "cosine"])
def test_text_gives_the_same_scores_and_gradients(head):
    model = models.pair_classifier(text_encoder(layers.LSTM(4)), head)
    assert_the_same_function(model, *text_pairs())


def test_tweet_pair_gives_the_same_scores_and_gradients():
    rng = np.random.default_rng(4)
    ids = rng.integers(0, 257, (2, 3, 280)).astype("uint16")
    columns = np.concatenate([np.zeros((1, 256)), np.eye(256)]).astype("float32")
    compact_items = {"a": ids[0], "b": ids[1]}
    assert_the_same_function(
        models.build("tweet_pair"),
        compact_items,
        {side: columns[x] for side, x in compact_items.items()},
    )


def test_digit_pair_gives_the_same_scores_and_gradients():
    pixels = np.random.default_rng(5).integers(0, 256, (2, 3, 27, 27, 1)).astype("uint8")
    compact_items = {"a": pixels[0], "b": pixels[1]}
    items = {side: x.astype("float32") / 255 for side, x in compact_items.items()}
    model = models.build("digit_pair")
    view = assert_the_same_function(model, compact_items, items)
    np.testing.assert_allclose(view(items), model(items), rtol=1e-5)  # Floats: as they are.


def test_integers_go_to_an_encoder_of_integers_as_they_are():
    encoder = keras.Sequential(
        [keras.Input((LENGTH,), dtype="int32"), layers.Embedding(LETTERS + 1, 3), layers.Flatten()]
    )
    ids, _ = text_pairs()
    assert_the_same_function(models.pair_classifier(encoder), ids, ids)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3,), "float16"), ((LENGTH, LETTERS), "float32"), ((4, 3, 2), "float64")]
)
def test_floats_are_taken_as_they_are(shape, dtype):
    encoder = keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(2)])
    values = np.random.default_rng(6).random((2, 5, *shape)).astype(dtype)
    floats = dict(zip("ab", values.astype("float32"), strict=True))
    assert_the_same_function(
        models.pair_classifier(encoder), dict(zip("ab", values, strict=True)), floats
    )


def test_pixels_of_more_than_8_bits_are_taken_as_they_are():
    encoder = keras.Sequential([keras.Input((4, 3, 2)), layers.Flatten(), layers.Dense(2)])
    values = np.random.default_rng(6).integers(0, 9, (2, 5, 4, 3, 2)).astype("int16")
    floats = dict(zip("ab", values.astype("float32"), strict=True))
    assert_the_same_function(
        models.pair_classifier(encoder), dict(zip("ab", values, strict=True)), floats
    )


def test_both_sides_may_take_different_items():
    ids, matrices = text_pairs()
    text = keras.Input((LENGTH, LETTERS), name="a")
    vector = keras.Input((3,), name="b")
    merged = layers.Concatenate()([layers.LSTM(2)(text), layers.Dense(2)(vector)])
    model = keras.Model([text, vector], layers.Dense(1)(merged))
    vectors = np.random.default_rng(7).random((7, 3)).astype("float32")
    compact_items = {"a": ids["a"], "b": vectors.astype("float64")}
    assert_the_same_function(model, compact_items, {"a": matrices["a"], "b": vectors})


def test_both_sides_are_encoded_in_one_call():
    """The encoder's operations stand in the graph once, for a batch of both sides."""

    def count_products(model, x):
        graph = tf.function(lambda x: model(x)).get_concrete_function(x).graph
        return sum(op.type == "MatMul" for op in graph.get_operations())

    ids, matrices = text_pairs()
    encoder = text_encoder(layers.Flatten(), layers.Dense(3))
    model = models.pair_classifier(encoder)
    assert count_products(model, matrices) == 3
    assert count_products(models.compact_view(model), ids) == 2


class Custom(layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0)


def batch_mean_by_operations():
    x = keras.Input((LENGTH * LETTERS,))
    return keras.Model(x, x - keras.ops.mean(x, axis=0, keepdims=True))


@pytest.mark.parametrize(
    "make_layer",
    [
        layers.BatchNormalization,
        lambda: keras.Sequential([layers.BatchNormalization()]),
        lambda: layers.SpectralNormalization(layers.Dense(3)),
        lambda: layers.Dense(3, activity_regularizer="l2"),
        lambda: layers.Lambda(lambda x: x - keras.ops.mean(x, axis=0)),
        Custom,
        batch_mean_by_operations,
    ],
)
def test_an_encoder_that_may_mix_rows_is_called_once_a_side(make_layer):
    encoder = text_encoder(layers.Flatten(), make_layer(), layers.Dense(2))
    assert not keeps_rows_apart(encoder)
    model = models.pair_classifier(encoder)
    state = [w.numpy() for w in model.non_trainable_weights]
    ids, matrices = text_pairs()
    scores = model(matrices, training=True)
    after = [w.numpy() for w in model.non_trainable_weights]
    losses = [float(x) for x in model.losses]
    for variable, value in zip(model.non_trainable_weights, state, strict=True):
        variable.assign(value)
    view = models.compact_view(model)
    np.testing.assert_allclose(view(ids, training=True), scores, rtol=1e-5)
    np.testing.assert_allclose([float(x) for x in view.losses], losses, rtol=1e-5)
    for variable, value in zip(model.non_trainable_weights, after, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "apart"),
    [
        (lambda: layers.LSTM(2, stateful=True), False),
        (lambda: layers.TimeDistributed(layers.BatchNormalization()), False),
        (lambda: layers.Bidirectional(layers.GRU(2, dropout=0.5)), True),
        (lambda: layers.LayerNormalization(), True),
        (lambda: keras.Sequential([layers.Conv1D(2, 3), layers.GlobalMaxPooling1D()]), True),
    ],
)
def test_which_encoders_keep_rows_apart(layer, apart):
    assert keeps_rows_apart(layer()) == apart


@pytest.mark.parametrize(
    "encoder",
    [
        layers.Masking,
        lambda: text_encoder(layers.Masking(), layers.LSTM(3, return_sequences=True)),
    ],
)
def test_a_mask_on_the_encodings_reaches_the_head(encoder):
    encoder = encoder()
    a, b = (keras.Input((LENGTH, LETTERS), name=name) for name in "ab")
    means = [layers.GlobalAveragePooling1D()(encoder(side)) for side in (a, b)]
    model = keras.Model([a, b], layers.Dot(axes=1)(means))
    ids, matrices = text_pairs()
    ids["a"][0, -1] = 1  # A sequence of padding alone has no mean.
    matrices["a"][0, -1, 0] = 1
    np.testing.assert_allclose(
        models.compact_view(model)(ids), model(matrices), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("in_encoder", "in_head"), [(0.999, 0), (0, 0.999)])
def test_the_training_flag_reaches_encoder_and_head(in_encoder, in_head, training):
    encoder = text_encoder(layers.Flatten(), layers.Dropout(in_encoder), layers.Dense(4))
    a, b = (keras.Input((LENGTH, LETTERS), name=name) for name in "ab")
    difference = layers.Subtract()([encoder(a), encoder(b)])
    model = keras.Model([a, b], layers.Dropout(in_head)(difference))
    ids, matrices = text_pairs()
    scores = models.compact_view(model)(ids, training=training)
    if training:
        assert np.mean(scores == 0) > 0.9
    else:
        np.testing.assert_allclose(scores, model(matrices), rtol=1e-5)


def test_training_the_view_trains_the_model_loaded_from_a_file(tmp_path):
    model = models.pair_classifier(text_encoder(layers.LSTM(4)), "absolute_difference")
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    view = models.compact_view(loaded)
    view.compile(loaded.optimizer, "binary_crossentropy", metrics=["accuracy"])
    ids, matrices = text_pairs()
    labels = np.arange(7).reshape(7, 1) % 2
    weight = np.linspace(0, 1, 7)
    options = {"batch_size": 3, "epochs": 2, "shuffle": False, "verbose": 0}
    kept = model.fit(matrices, labels, sample_weight=weight, **options)
    read = view.fit(ids, labels, sample_weight=weight, **options)
    np.testing.assert_allclose(read.history["loss"], kept.history["loss"], rtol=1e-5)
    for x, y in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) == 6
    np.testing.assert_allclose(
        view.predict(ids, verbose=0), loaded.predict(matrices, verbose=0), rtol=1e-5
    )


def test_a_view_leaves_the_layers_nodes_alone(small_encoder):
    model = models.pair_classifier(small_encoder)
    dense = model.layers[-1]
    score = models.get_output(dense)
    ids, _ = text_pairs()
    models.compact_view(model).predict(ids, verbose=0)
    assert models.get_output(dense) is score
    with pytest.raises(ValueError, match="2 inbound nodes"):
        models.get_output_at(small_encoder, 2)


@pytest.mark.parametrize(("first", "second"), [("b", "a"), ("y", "x")])
def test_inputs_are_told_apart_by_name_or_else_by_order(first, second):
    encoder = text_encoder(layers.LSTM(4))
    x, y = (keras.Input((LENGTH, LETTERS), name=name) for name in (first, second))
    model = keras.Model([x, y], layers.Dense(1)(layers.Concatenate()([encoder(y), encoder(x)])))
    ids, matrices = text_pairs()
    in_order = [matrices["b"], matrices["a"]] if first == "b" else [matrices["a"], matrices["b"]]
    np.testing.assert_allclose(models.compact_view(model)(ids), model(in_order), rtol=1e-5)


def test_two_encoders_that_are_not_shared_work_as_well():
    a, b = (keras.Input((LENGTH, LETTERS), name=name) for name in "ab")
    merged = layers.Concatenate()([layers.LSTM(2)(a), layers.GRU(2)(b)])
    model = keras.Model({"a": a, "b": b}, layers.Dense(1)(merged))
    ids, matrices = text_pairs()
    np.testing.assert_allclose(models.compact_view(model)(ids), model(matrices), rtol=1e-5)


def test_ids_past_the_alphabet_are_zero_rows_like_padding():
    model = models.pair_classifier(text_encoder(layers.LSTM(4)))
    view = models.compact_view(model)
    padding = np.zeros((1, LENGTH), "uint16")
    np.testing.assert_array_equal(
        view({"a": padding + LETTERS + 1, "b": padding}), view({"a": padding, "b": padding})
    )


def test_mixed_precision_keeps_the_models_policy():
    encoder = keras.Sequential(
        [
            keras.Input((LENGTH, LETTERS)),
            layers.LSTM(4, dtype="mixed_float16"),
            layers.Dense(2, dtype="mixed_float16"),
        ]
    )
    model = models.pair_classifier(encoder)
    ids, matrices = text_pairs()
    view = models.compact_view(model)
    assert view.dtype_policy.name == model.dtype_policy.name
    np.testing.assert_allclose(view(ids), model(matrices), rtol=2e-3)


def test_what_has_no_compact_form_is_refused():
    a, b = (keras.Input((), name=name) for name in "ab")
    numbers = keras.Model([a, b], layers.Subtract()([a, b]))
    with pytest.raises(ValueError, match=r"reads text .*Received: the input a of shape \(None,\)"):
        models.compact_view(numbers)
    for name in ("residual", "shared_conv"):
        with pytest.raises(ValueError, match=f"two inputs and one output.*name={name}"):
            models.compact_view(models.build(name))


@pytest.mark.parametrize(
    "items", [np.full((1, LENGTH), 0.7, "float32"), np.zeros((1, LENGTH, 1), "int32")]
)
def test_integers_are_not_made_of_what_are_none(items):
    encoder = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), layers.Embedding(9, 2)])
    a, b = (keras.Input((LENGTH,), dtype="int32", name=name) for name in "ab")
    model = keras.Model([a, b], layers.Subtract()([encoder(a), encoder(b)]))
    with pytest.raises(UserError, match="must be integers of that shape"):
        models.compact_view(model)({"a": items, "b": items})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([np.zeros((1, 6), "uint16")] * 2, r"takes a dictionary.*Received: inputs=list"),
        ({"a": np.zeros((1, 6), "uint16")}, r"Received: inputs=\['a'\]"),
        (
            dict.fromkeys("ab", np.zeros((1, 6), "float32")),
            r"the input a of shape \(None, 6, 5\) must be integers.*shape=\(1, 6\), dtype=float32",
        ),
        (dict.fromkeys("ab", np.zeros((1, 6, 5), "int32")), r"must be integers \(batch, length\)"),
    ],
)
def test_items_of_another_form_are_refused(small_encoder, inputs, message):
    view = models.compact_view(models.pair_classifier(small_encoder))
    with pytest.raises(ValueError, match=message):
        view(inputs)
