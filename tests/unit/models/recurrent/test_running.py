"""Recurrent layers over ids give what Keras gives for the rows that these stand for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from sharedlayers_dist.models.recurrent.cells import take_apart
from sharedlayers_dist.models.recurrent.chunks import ROWS, cut_into_chunks, move_to_end
from sharedlayers_dist.models.recurrent.finding import find_recurrent_start
from sharedlayers_dist.models.recurrent.running import RecurrentRunner

LENGTH, LETTERS, UNITS = 40, 9, 5
LAYERS = {
    "lstm": lambda: layers.LSTM(UNITS),
    "lstm-without-bias": lambda: layers.LSTM(UNITS, use_bias=False),
    "lstm-of-other-activations": lambda: layers.LSTM(
        UNITS, activation="softsign", recurrent_activation="hard_sigmoid"
    ),
    "gru": lambda: layers.GRU(UNITS),
    "gru-without-bias": lambda: layers.RNN(layers.GRUCell(UNITS, use_bias=False)),
    "simple": lambda: layers.SimpleRNN(UNITS),
    "rnn-of-lstm": lambda: layers.RNN(layers.LSTMCell(UNITS)),
}


def make_ids(num_items, seed=0, *, lengths=None):
    """Ids with zeros in front, and some among and behind the others; the first are all zeros."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, LENGTH + 1, num_items) if lengths is None else lengths
    ids = rng.integers(0, LETTERS + 1, (num_items, LENGTH))
    ids[np.arange(LENGTH)[None] < LENGTH - np.asarray(lengths)[:, None]] = 0
    ids[:1] = 0
    return ids


def as_rows(ids):
    return keras.ops.one_hot(np.where(ids > LETTERS, 0, ids), LETTERS + 1)[..., 1:]


def make_layer(name):
    layer = LAYERS[name]()
    layer.build((None, LENGTH, LETTERS))
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape) * 0.4)
    return layer


def make_runner(layer, *, is_masked=False):
    math = take_apart(layer.cell)
    assert math is not None
    return RecurrentRunner(math, is_masked=is_masked)


def differentiate(function, layer, weights_of_outputs):
    with tf.GradientTape() as tape:
        outputs = function()
        loss = tf.reduce_sum(outputs * weights_of_outputs)
    variables = [variable.value for variable in layer.trainable_variables]
    return [outputs, *map(tf.convert_to_tensor, tape.gradient(loss, variables))]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        scale = float(np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6 * max(scale, 1))


@pytest.mark.parametrize(
    ("name", "is_masked"), [*((name, False) for name in LAYERS), ("lstm", True), ("gru", True)]
)
def test_outputs_and_gradients_are_those_of_keras(name, is_masked):
    layer, num_items = make_layer(name), 2 * ROWS + 7
    ids = make_ids(num_items)
    ids[5, -3] = LETTERS + 4  # No column of the matrix: a row of zeros.
    weights = np.random.default_rng(2).normal(size=(num_items, UNITS)).astype("float32")
    mask = tf.constant((ids > 0) & (ids <= LETTERS)) if is_masked else None
    expected = differentiate(lambda: layer(as_rows(ids), mask=mask), layer, weights)
    run = make_runner(layer, is_masked=is_masked)

    @tf.function(input_signature=[tf.TensorSpec((None, LENGTH), tf.uint16)])
    def in_graph(ids):
        return differentiate(lambda: run(ids, training=True), layer, weights)

    for training in (True, False):
        found = differentiate(lambda training=training: run(ids, training=training), layer, weights)
        assert_close(found, expected)
    assert_close(in_graph(tf.constant(ids, tf.uint16)), expected)
    once_more = in_graph(tf.constant(ids, tf.uint16))
    for one, other in zip(once_more, in_graph(tf.constant(ids, tf.uint16)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("num_items", [1, ROWS, ROWS + 1])
@pytest.mark.parametrize("length", [0, 1, LENGTH])
def test_few_items_and_items_of_one_length(num_items, length):
    layer = make_layer("lstm")
    ids = make_ids(num_items, lengths=[length] * num_items)
    weights = np.ones((num_items, UNITS), "float32")
    expected = differentiate(lambda: layer(as_rows(ids)), layer, weights)
    run = make_runner(layer)
    assert_close(differentiate(lambda: run(ids, training=True), layer, weights), expected)


@pytest.mark.parametrize("length", [1, 3, 16, 17, 280])
def test_chunks_run_what_items_need_in_few_lengths(length):
    rng = np.random.default_rng(length)
    lengths = set()
    for num_items in (1, 31, 300):
        needed = rng.integers(0, length + 1, num_items)
        ids = np.where(np.arange(length)[None] < length - needed[:, None], 0, 7)
        chunks = cut_into_chunks(tf.constant(ids, tf.int32))
        assert len(chunks.steps) == -(-num_items // ROWS)
        for number, steps in enumerate(chunks.steps.numpy()):
            places = chunks.order.numpy()[number * ROWS : (number + 1) * ROWS]
            assert steps == max(needed[places].max(), 1)
            taken, skipped = chunks.take(number)
            assert taken.shape[1] - skipped == steps
            np.testing.assert_array_equal(
                taken[: len(places)], ids[places][:, length - taken.shape[1] :]
            )
            assert not taken[len(places) :].numpy().any()
            lengths.add(taken.shape[1])
        values = chunks.sort(tf.constant(ids, tf.float32))
        np.testing.assert_array_equal(chunks.restore(values)[:num_items], ids)
    assert len(lengths) <= 5


def test_what_is_passed_over_goes_to_the_front():
    found = move_to_end(tf.constant([[0, 3, 0, 1], [0, 0, 0, 0], [4, 3, 2, 1]])).numpy()
    assert found.tolist() == [[0, 0, 3, 1], [0, 0, 0, 0], [4, 3, 2, 1]]


def sequential(*inner):
    return keras.Sequential([keras.Input((LENGTH, LETTERS)), *inner])


def with_two_readers():
    rows = keras.Input((LENGTH, LETTERS))
    pooled = layers.GlobalMaxPooling1D()(rows)
    return keras.Model(rows, layers.Concatenate()([layers.LSTM(UNITS)(rows), pooled]))


def with_a_state_of_its_own():
    rows = keras.Input((LENGTH, LETTERS))
    state = layers.Dense(UNITS)(layers.GlobalMaxPooling1D()(rows))
    return keras.Model(rows, layers.GRU(UNITS)(rows, initial_state=state))


@pytest.mark.parametrize(
    ("encoder", "is_masked"),
    [
        (lambda: make_layer("lstm"), False),
        (lambda: sequential(layers.GRU(UNITS), layers.Dense(3, "relu")), False),
        (lambda: sequential(layers.Masking(), layers.LSTM(UNITS), layers.Dense(3)), True),
    ],
)
def test_encoders_that_begin_with_a_recurrent_layer_are_found(encoder, is_masked):
    start = find_recurrent_start(encoder())
    assert start is not None
    assert start.is_masked == is_masked


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: sequential(layers.Bidirectional(layers.LSTM(UNITS))),
        lambda: sequential(layers.LSTM(UNITS, return_sequences=True), layers.LSTM(UNITS)),
        lambda: sequential(layers.LSTM(UNITS, go_backwards=True)),
        lambda: sequential(layers.LSTM(UNITS, dropout=0.1)),
        lambda: sequential(layers.LSTM(UNITS, recurrent_dropout=0.1)),
        lambda: sequential(layers.LSTM(UNITS, dtype="mixed_bfloat16")),
        lambda: sequential(layers.LSTM(UNITS, activity_regularizer="l2")),
        lambda: sequential(layers.GRU(UNITS, reset_after=False)),
        lambda: sequential(layers.Masking(mask_value=1.0), layers.LSTM(UNITS)),
        lambda: sequential(layers.Dense(3), layers.LSTM(UNITS)),
        lambda: sequential(layers.RNN([layers.LSTMCell(3), layers.LSTMCell(3)])),
        with_two_readers,
        with_a_state_of_its_own,
    ],
)
def test_others_are_left_to_keras(encoder):
    assert find_recurrent_start(encoder()) is None
