"""CoSENT against its formula, by a loop over all ordered pairs of pairs."""

import math

import numpy as np
import pytest

from sharedlayers_dist.losses import CoSENT
from tests.unit.losses.numerics import assert_agrees, value_and_gradient


def reference(scale):
    def loss(similarities, cosines, weights):
        total = 1.0
        for i, y_i in enumerate(similarities):
            for j, y_j in enumerate(similarities):
                if y_i > y_j:
                    exponent = scale * (cosines[j, 0] - cosines[i, 0])
                    total += weights[i] * weights[j] * math.exp(exponent)
        return math.log(total)

    return loss


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("kind", ["labels", "similarities", "steps", "all the same"])
def test_values_and_gradients_are_those_of_the_formula(seed, scale, kind):
    rng = np.random.default_rng(seed)
    similarities = {
        "labels": rng.integers(0, 2, 8),
        "similarities": rng.uniform(0, 5, 8),
        "steps": rng.choice([0.0, 0.5, 1.0], 8),
        "all the same": np.full(8, 0.25),
    }[kind]
    cosines = rng.uniform(-1, 1, (8, 1))
    assert_agrees(CoSENT(scale), reference(scale), similarities, cosines)
    weights = rng.choice([0.0, 1.0, 2.5], 8)
    assert_agrees(CoSENT(scale), reference(scale), similarities, cosines, weights)


def test_only_the_order_of_the_similarities_matters():
    cosines = np.array([[0.3], [-0.5], [0.9], [0.1]])
    y = np.array([1.0, 2.0, 3.0, 4.0])
    assert (
        value_and_gradient(CoSENT(), y, cosines)[0]
        == value_and_gradient(CoSENT(), np.exp(y), cosines)[0]
    )


def test_nothing_overflows_where_every_order_is_wrong():
    value, gradient = value_and_gradient(CoSENT(1000.0), [1.0, 0.0], [[-1.0], [1.0]])
    assert value == pytest.approx(2000)
    np.testing.assert_allclose(gradient, [[-1000.0], [1000.0]], rtol=1e-6)
