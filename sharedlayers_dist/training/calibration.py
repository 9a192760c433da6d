"""Scale and bias that make a probability of the cosine of two encodings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MAX_ROUNDS = 100


def fit_scale_and_bias(
    cosines: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Fits `sigmoid(scale * cosine + bias)` to labelled pairs, by maximum likelihood.

    John Platt: Probabilistic Outputs for Support Vector Machines, 1999, section 2.2: the targets
    are not 0 and 1 but a little within, as if one pair more of each kind had been seen, so that
    pairs which a threshold tells apart without an error do not ask for an infinite scale.

    Args:
        cosines: `(pairs,)`.
        labels: `(pairs,)`, 0 or 1.
        weights: `(pairs,)`, how much each pair counts; their sum is not 0.

    Example:
        >>> cosines = np.array([0.9, 0.8, 0.1, 0.2])
        >>> scale, bias = fit_scale_and_bias(cosines, np.array([1.0, 1, 0, 0]), np.ones(4))
        >>> round(-bias / scale, 3)  # The cosine at which the probability is 0.5.
        0.5
    """
    positives, negatives = weights @ labels, weights @ (1 - labels)
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    features = np.stack([cosines, np.ones_like(cosines)], axis=1)
    found = np.zeros(2)

    def loss(candidate: NDArray[np.float64]) -> float:
        logits = features @ candidate
        return float(weights @ (np.logaddexp(0, logits) - targets * logits))

    for _ in range(_MAX_ROUNDS):
        probabilities = 1 / (1 + np.exp(-np.clip(features @ found, -700, 700)))
        gradient = features.T @ (weights * (probabilities - targets))
        curvature = weights * probabilities * (1 - probabilities)
        # The identity is for cosines that are all alike: one line of scales and biases fits then.
        hessian = (features * curvature[:, None]).T @ features + 1e-9 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while loss(found - size * step) > loss(found) and size > 1e-6:
            size /= 2
        found = found - size * step
        if np.abs(size * step).max() < 1e-9 * (1 + np.abs(found).max()):
            break
    return float(found[0]), float(found[1])
