"""Contrastive loss of Hadsell, Chopra and LeCun (2006), pair by pair."""

import numpy as np
import pytest

from sharedlayers_dist.losses import Contrastive
from tests.unit.losses.numerics import assert_agrees, value_and_gradient


def reference(margin, is_positive):
    def loss(labels, distances, weights):
        total = 0.0
        for label, distance, weight in zip(labels, distances.ravel(), weights, strict=True):
            if is_positive(label):
                total += weight * 0.5 * distance**2
            elif distance < margin:
                total += weight * 0.5 * (margin - distance) ** 2
        return total / len(labels)

    return loss


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("positive_label", [1, 0])
def test_values_and_gradients_are_those_of_the_paper(seed, margin, positive_label):
    rng = np.random.default_rng(seed)
    labels, distances = rng.integers(0, 2, 9), rng.uniform(0, 2.5, (9, 1))
    expected = reference(margin, lambda label: label == positive_label)
    loss = Contrastive(margin, positive_label=positive_label)
    assert_agrees(loss, expected, labels, distances)
    assert_agrees(loss, expected, labels, distances, rng.uniform(0, 2, 9))


def test_the_two_conventions_are_each_others_with_labels_exchanged():
    labels, distances = np.array([1, 0, 0, 1]), np.array([[0.1], [0.2], [0.7], [2.0]])
    ones, _ = value_and_gradient(Contrastive(positive_label=1), labels, distances)
    zeros, _ = value_and_gradient(Contrastive(positive_label=0), 1 - labels, distances)
    same_labels, _ = value_and_gradient(Contrastive(positive_label=0), labels, distances)
    assert ones == zeros
    assert ones != pytest.approx(same_labels)


def test_each_pair_counts_for_itself_with_any_reduction_of_keras():
    labels, distances = np.array([1, 0, 1]), np.array([[0.4], [0.4], [0.0]])
    each = Contrastive(reduction="none")(labels, distances).numpy()
    np.testing.assert_allclose(each, [0.08, 0.18, 0.0], rtol=1e-6)
    total = Contrastive(reduction="sum")(labels, distances)
    assert float(total) == pytest.approx(0.26)


def test_pairs_beyond_the_margin_and_pairs_at_distance_zero_have_finite_gradients():
    _, gradient = value_and_gradient(Contrastive(1.0), [1, 0, 0], [[0.0], [0.0], [1.5]])
    np.testing.assert_allclose(gradient, [[0.0], [-1 / 3], [0.0]], rtol=1e-6)
