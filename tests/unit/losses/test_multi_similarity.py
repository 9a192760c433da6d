"""Multi-similarity loss against the mining and weighting of Wang et al. (2019), by loops."""

import math

import numpy as np
import pytest

from sharedlayers_dist.losses import MultiSimilarity
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

BATCHES = GROUPS | {f"keyed: {name}": rows for name, rows in KEYED.items()}


def reference(alpha, beta, base, epsilon):
    def loss(groups, encodings, weights):
        costs = {}
        for i in range(len(groups)):
            positive, negative = others_by_group(groups, i)
            if not is_item(groups, i) or not positive or not negative:
                continue
            to_positive = [cosine(encodings[i], encodings[j]) for j in positive]
            to_negative = [cosine(encodings[i], encodings[j]) for j in negative]
            kept_negative = [s for s in to_negative if s > min(to_positive) - epsilon]
            kept_positive = [s for s in to_positive if s < max(to_negative) + epsilon]
            of_positive = sum(math.exp(-alpha * (s - base)) for s in kept_positive)
            of_negative = sum(math.exp(beta * (s - base)) for s in kept_negative)
            costs[i] = math.log(1 + of_positive) / alpha + math.log(1 + of_negative) / beta
        return weighted_mean(costs, weights)

    return loss


@pytest.mark.parametrize("groups", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("options", [(2.0, 50.0, 0.5, 0.1), (1.0, 3.0, 0.0, 0.0), (2, 40, 1, 2.5)])
def test_values_and_gradients_are_those_of_the_paper(groups, options):
    for seed, is_weighted in ((0, False), (1, True)):
        encodings, weights = draw(groups, seed)
        loss, expected = MultiSimilarity(*options), reference(*options)
        assert_agrees(loss, expected, np.array(groups), encodings, weights if is_weighted else None)


def test_easy_pairs_are_not_kept():
    encodings = np.array([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    value, gradient = value_and_gradient(MultiSimilarity(), [0, 0, 1, 1], encodings)
    assert value == 0
    assert not gradient.any()
    value, _ = value_and_gradient(MultiSimilarity(epsilon=3.0), [0, 0, 1, 1], encodings)
    assert value > 0


def test_equal_encodings_and_great_factors_do_not_overflow():
    encodings = np.ones((4, 3))
    loss = MultiSimilarity(alpha=1e3, beta=1e4, base=-1.0)
    value, gradient = value_and_gradient(loss, [0, 0, 1, 1], encodings)
    assert value == pytest.approx(2.0, rel=1e-3)
    assert np.isfinite(gradient).all()
