"""The table in which a model looks up its ids is found where the ids go straight into it."""

import keras
import pytest
from keras import layers, ops

from sharedlayers_dist.models import find_table_size, inputs_by_side, pair_classifier


class Hashed(layers.Embedding):
    """Makes other ids of those it is given."""

    def call(self, inputs):
        return super().call(inputs % self.input_dim)


def encoder(*begin):
    ids = keras.Input((6,), dtype="int32", name="ids")
    x = ids
    for layer in begin:
        x = layer(x)
    return keras.Model(ids, layers.GlobalMaxPooling1D()(x))


def sequential():
    return keras.Sequential([keras.Input((6,), dtype="int32"), *embed(), layers.Flatten()])


class HashingModel(keras.Model):
    """A functional model that makes other ids of those it is given."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs % 50)


def hashing():
    ids = keras.Input((6,), dtype="int32")
    return HashingModel(ids, layers.Flatten()(layers.Embedding(50, 3)(ids)))


def embed(rows=50):
    return (layers.Embedding(rows, 3),)


class Plus(layers.Layer):
    def call(self, ids):
        return ids + 1


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: encoder(*embed()), 50),
        (sequential, 50),
        (lambda: encoder(sequential(), layers.Reshape((1, -1))), 50),
        (lambda: encoder(Plus(), *embed()), None),
        (lambda: encoder(Hashed(50, 3)), None),
        (hashing, None),
        (lambda: encoder(layers.CategoryEncoding(9), layers.Reshape((1, 9))), None),
    ],
)
def test_the_table_is_found_where_ids_go_straight_into_an_embedding(make, size):
    model = pair_classifier(make(), "cosine")
    found = {side: find_table_size(model, x) for side, x in inputs_by_side(model).items()}
    assert found == {"a": size, "b": size}


def test_of_several_tables_the_smallest_counts_and_other_uses_do_not():
    ids = keras.Input((6,), dtype="int32")
    is_there = ops.cast(ops.expand_dims(ops.not_equal(ids, 0), -1), "float32")
    both = layers.Embedding(9, 3)(ids) * is_there + layers.Embedding(7, 3)(ids)
    model = pair_classifier(keras.Model(ids, layers.Flatten()(both)), "cosine")
    assert find_table_size(model, model.inputs[0]) == 7


def test_each_input_has_its_own_table():
    a, b = (keras.Input((6,), dtype="int32", name=name) for name in "ab")
    sides = [layers.Flatten()(layers.Embedding(n, 2)(x)) for n, x in ((5, a), (8, b))]
    model = keras.Model([a, b], layers.Dense(1)(layers.Concatenate()(sides)))
    assert [find_table_size(model, x) for x in (a, b)] == [5, 8]
