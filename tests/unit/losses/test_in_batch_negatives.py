"""In-batch negatives against a loop over pairs, with false negatives left out by group."""

import math

import numpy as np
import pytest

from sharedlayers_dist.losses import InBatchNegatives
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


def reference(temperature, symmetric):
    def cost(own, others, anchor):
        right = math.exp(cosine(anchor, own) / temperature)
        wrong = sum(math.exp(cosine(anchor, other) / temperature) for other in others)
        return -math.log(right / (right + wrong))

    def loss(groups, pairs, weights):
        costs = {}
        for i in range(len(groups)):
            _, negative = others_by_group(groups, i)
            if not is_item(groups, i):
                continue
            a, b = pairs[i]
            costs[i] = cost(b, [pairs[j][1] for j in negative], a)
            if symmetric:
                costs[i] = (costs[i] + cost(a, [pairs[j][0] for j in negative], b)) / 2
        return weighted_mean(costs, weights)

    return loss


@pytest.mark.parametrize("groups", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("symmetric", [True, False])
def test_values_and_gradients_are_those_of_the_formula(groups, temperature, symmetric):
    for seed, is_weighted in ((0, False), (1, True)):
        pairs, weights = draw(groups, seed, pairs=True)
        loss = InBatchNegatives(temperature, symmetric=symmetric)
        expected = reference(temperature, symmetric)
        assert_agrees(loss, expected, np.array(groups), pairs, weights if is_weighted else None)


def test_two_equal_pairs_of_one_group_cost_what_one_does():
    pairs, _ = draw([0] * 4, seed=0, pairs=True)
    doubled, weights = np.concatenate([pairs, pairs[:1]]), [1.0, 0.0, 0.0, 0.0, 1.0]
    loss = InBatchNegatives(temperature=1.0)
    once, _ = value_and_gradient(loss, [5, 6, 7, 8], pairs, weights[:4])
    twice, _ = value_and_gradient(loss, [5, 6, 7, 8, 5], doubled, weights)
    told_apart, _ = value_and_gradient(loss, [5, 6, 7, 8, 9], doubled, weights)
    assert twice == pytest.approx(once, rel=1e-6)
    assert told_apart > once + 0.1


def test_symmetric_is_the_same_with_the_sides_exchanged():
    groups = np.array(GROUPS["several groups"])
    pairs, weights = draw(groups, seed=0, pairs=True)
    value, _ = value_and_gradient(InBatchNegatives(), groups, pairs, weights)
    exchanged, _ = value_and_gradient(InBatchNegatives(), groups, pairs[:, ::-1], weights)
    assert exchanged == pytest.approx(value, rel=1e-6)
