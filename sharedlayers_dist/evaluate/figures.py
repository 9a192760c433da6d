"""Figures of merit for scored pairs (pure functions of labels and scores)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn import metrics

from sharedlayers_dist.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PairFigures:
    """How well scores tell the pairs that belong together from the others.

    A figure that needs both kinds of pairs is None where there is only one.
    """

    num_pairs: int
    """Pairs that were scored."""
    num_positives: int
    """Pairs among them with label 1."""
    loss: float
    """Mean binary cross-entropy in nats."""
    accuracy: float
    """Share of pairs on the right side of a score of 0.5."""
    roc_auc: float | None
    """Chance that a positive pair scores above a negative one; 0.5 is guessing."""
    average_precision: float | None
    """Area under the precision-recall curve, as a sum of steps."""
    equal_error_rate: float | None
    """Error rate at the threshold where false accepts are as frequent as false rejects."""
    equal_error_threshold: float | None
    """The score at which the two error rates meet."""


def measure(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> PairFigures:
    """Measures scores against labels.

    Args:
        labels: `(pairs,)`, 0 or 1.
        scores: `(pairs,)`, probabilities that both sides belong together.
        weights: `(pairs,)`, how much each pair counts; all alike when left out.

    Raises:
        UserError: when there is no pair.
    """
    if len(labels) == 0:
        raise UserError("At least one pair is needed to measure a model. Received: 0 pairs.")
    scores = np.asarray(scores, np.float64)
    probabilities = np.clip(scores, 1e-7, 1 - 1e-7)  # As Keras's loss does.
    losses = -np.where(labels == 1, np.log(probabilities), np.log1p(-probabilities))
    num_positives = int(np.sum(labels == 1))
    both = 0 < num_positives < len(labels)
    rate, threshold = _equal_error(labels, scores, weights) if both else (None, None)
    return PairFigures(
        num_pairs=len(labels),
        num_positives=num_positives,
        loss=float(np.average(losses, weights=weights)),
        accuracy=float(np.average((scores > 0.5) == (labels == 1), weights=weights)),
        roc_auc=float(metrics.roc_auc_score(labels, scores, sample_weight=weights))
        if both
        else None,
        average_precision=float(
            metrics.average_precision_score(labels, scores, sample_weight=weights)
        )
        if both
        else None,
        equal_error_rate=rate,
        equal_error_threshold=threshold,
    )


def _equal_error(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None
) -> tuple[float, float]:
    """The error rate and the threshold where the ROC curve crosses its anti-diagonal."""
    accepts, hits, thresholds = metrics.roc_curve(
        labels, scores, sample_weight=weights, drop_intermediate=False
    )
    gap = accepts - (1 - hits)  # Rises from -1 to 1 along the curve.
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    span = gap[after] - gap[before]
    share = -gap[before] / span if span > 0 else 0.0
    rate = accepts[before] + share * (accepts[after] - accepts[before])
    return float(rate), float(thresholds[after])
