"""Online contrastive loss: which pairs are hard, chosen by loops as sentence-transformers does."""

import numpy as np
import pytest

from sharedlayers_dist.losses import OnlineContrastive
from tests.unit.losses.numerics import assert_agrees, value_and_gradient


def reference(margin, positive_label=1):
    def loss(labels, distances, weights):
        pairs = [
            (float(distance), weight, label == positive_label)
            for label, distance, weight in zip(labels, distances.ravel(), weights, strict=True)
            if label in (0, 1) and weight > 0
        ]
        positive = [distance for distance, _, is_positive in pairs if is_positive]
        negative = [distance for distance, _, is_positive in pairs if not is_positive]
        total = 0.0
        for distance, weight, is_positive in pairs:
            if is_positive:
                bound = min(negative) if negative else np.mean(positive)
                total += weight * distance**2 if distance > bound else 0.0
            else:
                bound = max(positive) if positive else np.mean(negative)
                total += weight * max(0.0, margin - distance) ** 2 if distance < bound else 0.0
        weight = sum(weight for _, weight, _ in pairs)
        return total / weight if weight else 0.0

    return loss


LABELS = {
    "both": [1, 0, 0, 1, 1, 0, 0, 1],
    "one positive": [0, 0, 1, 0, 0],
    "one negative": [1, 0, 1, 1, 1],
    "one of each": [1, 0],
    "positives alone": [1, 1, 1],
    "negatives alone": [0, 0, 0, 0],
    "with padding": [1, -1, 0, 1, -1, 0, 0],
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("positive_label", [1, 0])
@pytest.mark.parametrize("seed", range(4))
def test_values_and_gradients_are_those_of_the_hard_pairs(labels, positive_label, seed):
    rng = np.random.default_rng(seed)
    labels, distances = np.array(labels), rng.uniform(0, 1.2, (len(labels), 1))
    loss = OnlineContrastive(0.9, positive_label=positive_label)
    expected = reference(0.9, positive_label)
    assert_agrees(loss, expected, labels, distances)
    assert_agrees(loss, expected, labels, distances, rng.choice([0.0, 1.0, 2.0], len(labels)))


def test_easy_pairs_cost_nothing():
    distances = [[0.1], [0.2], [0.3], [0.4]]
    assert value_and_gradient(OnlineContrastive(1.0), [1, 1, 0, 0], distances)[0] == 0
    assert value_and_gradient(OnlineContrastive(1.0), [0, 0, 1, 1], distances)[0] > 0.4


def test_a_pair_of_weight_zero_makes_no_other_pair_hard():
    distances = [[0.1], [0.2], [0.9], [0.3], [0.4]]
    loss = OnlineContrastive(0.5)
    assert value_and_gradient(loss, [1, 1, 1, 0, 0], distances)[0] > 0
    assert value_and_gradient(loss, [1, 1, 1, 0, 0], distances, [1.0, 1, 0, 1, 1])[0] == 0
