"""Triplet loss against loops over triplets, for every mining and every distance."""

import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist.losses import Triplet
from tests.unit.losses.numerics import (
    GROUPS,
    KEYED,
    assert_agrees,
    cosine,
    draw,
    is_item,
    others_by_group,
    value_and_gradient,
    weighted_mean,
)

DISTANCE = {
    "euclidean": lambda a, b: np.sqrt(np.sum((a - b) ** 2)),
    "squared_euclidean": lambda a, b: np.sum((a - b) ** 2),
    "cosine": lambda a, b: 1 - cosine(a, b),
}
MINING = ("all", "hard", "semi-hard")


def cost_of_anchor(to_positive, to_negative, mining, margin):
    if mining == "hard":
        return max(0.0, max(to_positive) - min(to_negative) + margin)
    costs = []
    for near in to_positive:
        if mining == "all":
            costs += [max(0.0, near - far + margin) for far in to_negative]
        else:
            farther = [far for far in to_negative if far > near]
            costs.append(max(0.0, near - (min(farther or [max(to_negative)])) + margin))
    return sum(costs) / len(costs)


BATCHES = GROUPS | {f"keyed: {name}": rows for name, rows in KEYED.items()}


def reference(mining, distance, margin):
    def loss(groups, encodings, weights):
        costs = {}
        for i in range(len(groups)):
            positive, negative = others_by_group(groups, i)
            if is_item(groups, i) and positive and negative:
                to_positive = [DISTANCE[distance](encodings[i], encodings[j]) for j in positive]
                to_negative = [DISTANCE[distance](encodings[i], encodings[j]) for j in negative]
                costs[i] = cost_of_anchor(to_positive, to_negative, mining, margin)
        return weighted_mean(costs, weights)

    return loss


@pytest.mark.parametrize("groups", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("distance", DISTANCE)
@pytest.mark.parametrize("mining", MINING)
def test_values_and_gradients_are_those_of_the_triplets(groups, mining, distance):
    margin = 0.3
    for seed, is_weighted in ((0, False), (1, True)):
        encodings, weights = draw(groups, seed)
        loss = Triplet(margin, mining=mining, distance=distance)
        expected = reference(mining, distance, margin)
        assert_agrees(loss, expected, np.array(groups), encodings, weights if is_weighted else None)


@pytest.mark.parametrize("distance", DISTANCE)
@pytest.mark.parametrize("mining", MINING)
def test_equal_encodings_have_distance_zero_and_finite_gradients(mining, distance):
    encodings, _ = draw([0] * 6, seed=0, num_features=64)
    encodings[1] = encodings[0]  # A positive.
    encodings[4] = encodings[2]  # A negative.
    groups = np.array([0, 0, 0, 1, 1, 1])
    exact = encodings.astype("float32").astype("float64")
    value, gradient = value_and_gradient(
        Triplet(1.0, mining=mining, distance=distance), groups, encodings
    )
    expected = reference(mining, distance, 1.0)(groups, exact, np.ones(6))
    assert value == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 100


@pytest.mark.parametrize("distance", DISTANCE)
@pytest.mark.parametrize("mining", MINING)
def test_a_batch_in_which_all_encodings_are_equal_costs_the_margin(mining, distance):
    encodings = np.tile(np.linspace(-1, 2, 16), (4, 1))
    loss = Triplet(0.7, mining=mining, distance=distance)
    value, gradient = value_and_gradient(loss, [0, 0, 1, 1], encodings)
    assert value == pytest.approx(0.7, rel=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("mining", MINING)
def test_distances_that_are_equal_or_differ_by_the_margin_are_no_special_case(
    mining, distance, jit_compile
):
    """Whole numbers around 0, so that all distances are exact."""
    half = np.random.default_rng(0).integers(-4, 5, (20, 1)).astype("float64")
    encodings = np.concatenate([half, -half])
    groups = np.random.default_rng(1).integers(-1, 6, 40)
    loss = tf.function(Triplet(2.0, mining=mining, distance=distance), jit_compile=jit_compile)
    value = loss(tf.constant(groups), tf.constant(encodings, "float32"))
    expected = reference(mining, distance, 2.0)(groups, encodings, np.ones(40))
    assert float(value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
def test_distances_far_from_the_origin_keep_their_digits(distance):
    encodings, weights = draw(GROUPS["several groups"], seed=1)
    groups = np.array(GROUPS["several groups"])
    encodings = np.round(encodings * 64) / 64  # So that float32 holds the moved ones exactly.
    loss = Triplet(0.5, mining="all", distance=distance)
    value, gradient = value_and_gradient(loss, groups, encodings, weights)
    moved, moved_gradient = value_and_gradient(loss, groups, encodings + 1024, weights)
    assert moved == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(moved_gradient, gradient, rtol=1e-3, atol=1e-5)


def test_the_squared_distance_of_facenet_is_twice_the_cosine_distance():
    groups = np.array(GROUPS["several groups"])
    encodings, _ = draw(groups, seed=3)
    unit = encodings / np.linalg.norm(encodings, axis=1, keepdims=True)
    squared, _ = value_and_gradient(Triplet(0.4, distance="squared_euclidean"), groups, unit)
    cosines, _ = value_and_gradient(Triplet(0.2, distance="cosine"), groups, encodings)
    assert squared == pytest.approx(2 * cosines, rel=1e-5)
