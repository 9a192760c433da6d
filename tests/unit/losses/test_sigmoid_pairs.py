"""The sigmoid loss of SigLIP against a loop over all pairs of sides."""

import math

import numpy as np
import pytest

from sharedlayers_dist.losses import SigmoidPairs
from tests.unit.losses.numerics import (
    GROUPS,
    KEYED_PAIRS,
    assert_agrees,
    cosine,
    draw,
    is_item,
    others_by_group,
    value_and_gradient,
    weighted_mean,
)

BATCHES = GROUPS | {f"keyed: {name}": rows for name, rows in KEYED_PAIRS.items()}


def reference(temperature, bias):
    def cost(a, b, sign):
        logit = sign * (cosine(a, b) / temperature + bias)
        return math.log(1 + math.exp(-logit))

    def loss(groups, pairs, weights):
        costs = {}
        for i in range(len(groups)):
            if is_item(groups, i):
                costs[i] = cost(pairs[i][0], pairs[i][1], 1)
                for j in others_by_group(groups, i)[1]:
                    costs[i] += 0.5 * cost(pairs[i][0], pairs[j][1], -1)
                    costs[i] += 0.5 * cost(pairs[j][0], pairs[i][1], -1)
        return weighted_mean(costs, weights)

    return loss


@pytest.mark.parametrize("groups", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("options", [(0.1, -10.0), (1.0, 0.0), (0.5, 3.0)])
def test_values_and_gradients_are_those_of_the_paper(groups, options):
    for seed, is_weighted in ((0, False), (1, True)):
        pairs, weights = draw(groups, seed, pairs=True)
        loss, expected = SigmoidPairs(*options), reference(*options)
        assert_agrees(loss, expected, np.array(groups), pairs, weights if is_weighted else None)


def test_without_weights_it_is_the_papers_pseudo_code():
    """Algorithm 1 of the paper, in its own words: labels of -1 and 1, a sum, divided by n."""
    pairs, _ = draw([0] * 6, seed=0, pairs=True)
    unit = pairs / np.linalg.norm(pairs, axis=2, keepdims=True)
    logits = unit[:, 0] @ unit[:, 1].T * 10 - 10
    labels = 2 * np.eye(6) - np.ones((6, 6))
    expected = -np.sum(-np.log1p(np.exp(-labels * logits))) / 6
    assert value_and_gradient(SigmoidPairs(), np.arange(6), pairs)[0] == pytest.approx(expected)


def test_false_negatives_are_left_out():
    pairs, _ = draw([0, 0], seed=0, pairs=True)
    pairs[1] = pairs[0]
    same, _ = value_and_gradient(SigmoidPairs(0.1, 0.0), [4, 4], pairs)
    alone, _ = value_and_gradient(SigmoidPairs(0.1, 0.0), [4], pairs[:1])
    other, _ = value_and_gradient(SigmoidPairs(0.1, 0.0), [4, 5], pairs)
    assert same == pytest.approx(alone, rel=1e-6)
    assert other > same
