"""Supervised contrastive loss against equation 2 of Khosla et al. (2020), anchor by anchor."""

import math

import numpy as np
import pytest

from sharedlayers_dist.losses import SupervisedContrastive
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


def reference(temperature):
    def loss(groups, encodings, weights):
        costs = {}
        for i in range(len(groups)):
            positive, negative = others_by_group(groups, i)
            if not is_item(groups, i) or not positive:
                continue
            exponentials = {
                j: math.exp(cosine(encodings[i], encodings[j]) / temperature)
                for j in positive + negative
            }
            total = sum(exponentials.values())
            logs = [math.log(exponentials[p] / total) for p in positive]
            costs[i] = -sum(logs) / len(positive)
        return weighted_mean(costs, weights)

    return loss


@pytest.mark.parametrize("groups", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_values_and_gradients_are_those_of_the_paper(groups, temperature):
    for seed, is_weighted in ((0, False), (1, True)):
        encodings, weights = draw(groups, seed)
        loss, expected = SupervisedContrastive(temperature), reference(temperature)
        assert_agrees(loss, expected, np.array(groups), encodings, weights if is_weighted else None)


def test_equal_encodings_are_no_special_case():
    groups = np.array([0, 0, 1, 1, 1])
    encodings, weights = draw(groups, seed=0)
    encodings[1], encodings[2] = encodings[0], encodings[0]
    assert_agrees(SupervisedContrastive(), reference(0.1), groups, encodings, weights)


def test_the_length_of_an_encoding_does_not_matter():
    groups = np.array(GROUPS["with padding"])
    encodings, _ = draw(groups, seed=0)
    lengths = np.random.default_rng(0).uniform(0.01, 1000, (len(groups), 1))
    value, _ = value_and_gradient(SupervisedContrastive(), groups, encodings)
    scaled, _ = value_and_gradient(SupervisedContrastive(), groups, encodings * lengths)
    assert scaled == pytest.approx(value, rel=1e-5)
