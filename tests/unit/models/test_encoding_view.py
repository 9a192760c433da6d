"""Views of a pair model that give what losses of encodings take, and train what they are of."""

from __future__ import annotations

import functools
from itertools import combinations

import keras
import numpy as np
import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models import AllPairsView, EncodingView, compact_view, pair_classifier

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 5, (6, 4))
GROUPS = np.array([3, 3, 8, 8, 3, -1])
KEYS = np.array([1, 2, 1, 4, 5, 6])  # The first and the third are the same item of two groups.


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((4, 4)), keras.layers.LSTM(3)])
    return pair_classifier(encoder, "scaled_cosine")


def encode(model: keras.Model, ids: np.ndarray) -> np.ndarray:
    matrix = np.eye(5)[:, 1:][ids]
    return np.asarray(model.get_layer(index=2)(matrix))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / lengths


def test_it_gives_what_a_loss_takes(model):
    encoded = encode(model, IDS)
    pairs = {"a": IDS[:3], "b": IDS[3:]}
    expected = cosines(encoded[:3], encoded[3:])[:, None]
    both = IDS.reshape(3, 2, 4)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(EncodingView(model)(IDS), encoded)
    found = EncodingView(model, "pairs of encodings")(both)
    close(found, encoded.reshape(3, 2, 3))
    close(EncodingView(model, "cosines")(pairs), expected)
    close(EncodingView(model, "distances")(pairs), 1 - expected)
    view = EncodingView(model)
    scores = view.score(view(IDS[:3]), view(IDS[3:]))
    close(scores, compact_view(model)(pairs))


def test_it_trains_the_encoder_alone_and_the_last_layer(model):
    last = keras.layers.Dense(2)
    view = EncodingView(model, "pairs of encodings", last)
    assert view(IDS.reshape(3, 2, 4)).shape == (3, 2, 2)
    names = [variable.path.split("/")[-1] for variable in view.trainable_variables]
    assert names == ["kernel", "recurrent_kernel", "bias", "kernel", "bias"]
    head = model.layers[-1].get_weights()
    view.compile("sgd", lambda y, encoded: keras.ops.mean(encoded))
    view.fit(IDS.reshape(3, 2, 4), np.zeros(3), verbose=0)
    for before, after in zip(head, model.layers[-1].get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("case", ["towers", "sequences"])
def test_a_model_without_one_encoder_of_vectors_is_refused(case):
    a, b = keras.Input((4,)), keras.Input((4,))
    if case == "towers":
        sides = [keras.layers.Dense(2)(side) for side in (a, b)]
    else:
        shared = keras.Sequential([keras.Input((4,)), keras.layers.Reshape((2, 2))])
        sides = [keras.layers.Flatten()(shared(side)) for side in (a, b)]
    score = keras.layers.Dense(1, "sigmoid")(keras.layers.Concatenate()(sides))
    with pytest.raises(UserError, match="one encoder, used on both sides"):
        EncodingView(keras.Model([a, b], score))


def expected_pairs() -> list[tuple[int, int]]:
    """Without the row that is no item, and without two of equal keys in two groups."""
    return [pair for pair in combinations(range(5), 2) if pair != (0, 2)]


def test_all_pairs_of_a_batch_are_scored_once(model):
    view = AllPairsView(model)
    view.compile(keras.optimizers.SGD(0.0), "binary_crossentropy", weighted_metrics=["accuracy"])
    targets = np.stack([GROUPS, KEYS], axis=1)
    logs = view.train_on_batch(IDS, targets, return_dict=True)
    first, second = np.array(expected_pairs()).T
    label = (GROUPS[first] == GROUPS[second]).astype(float)
    score = np.asarray(compact_view(model)({"a": IDS[first], "b": IDS[second]}))[:, 0]
    weight = len(label) / 2 / np.where(label == 1, label.sum(), (1 - label).sum())
    costs = -np.log(np.where(label == 1, score, 1 - score))
    assert logs["loss"] == pytest.approx((weight * costs).mean(), rel=1e-5)
    is_right = (score > 0.5) == (label == 1)
    assert logs["accuracy"] == pytest.approx((weight * is_right).sum() / weight.sum(), rel=1e-5)


def test_a_batch_of_one_kind_of_pairs_is_trained_on_with_weights_of_one(model):
    view = AllPairsView(model)
    view.compile(keras.optimizers.SGD(0.0), "binary_crossentropy")
    targets = np.stack([np.zeros(6, int), np.arange(6)], axis=1)
    loss = view.train_on_batch(IDS, targets)
    first, second = np.array(list(combinations(range(6), 2))).T
    scores = np.asarray(compact_view(model)({"a": IDS[first], "b": IDS[second]}))
    assert loss == pytest.approx(-np.log(scores).mean(), rel=1e-5)


def test_a_batch_without_a_pair_changes_nothing(model):
    view = AllPairsView(model)
    view.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    before = [weight.copy() for weight in model.get_weights()]
    assert view.train_on_batch(IDS, np.full((6, 2), -1)) == 0
    for weight, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_all_pairs_train_the_head_too(model):
    assert AllPairsView(model).trainable_variables == model.trainable_variables
