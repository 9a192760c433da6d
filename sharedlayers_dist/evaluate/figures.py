"""Figures of merit for scored pairs (pure functions of labels and scores)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn import metrics

from sharedlayers_dist.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PairFigures:
    """How well scores tell the pairs that belong together from the others.

    Where pairs have weights, `loss` divides by the number of pairs, as a run's `val_loss` does. All
    other figures divide by the sum of the weights: a pair of weight 2 counts as if it were there
    twice, and one of weight 0 as if it were not. A figure that needs both kinds of pairs is None
    where there is only one of any weight.

    Example:
        >>> measure(np.array([1, 1]), np.array([0.2, 0.8])).equal_error_rate is None
        True
    """

    num_pairs: int
    """Pairs that were scored."""
    num_positives: int
    """Pairs among them with label 1."""
    num_bad_rows: int = 0
    """Rows that were left out because they cannot be used; no other figure knows of them."""
    loss: float
    """Binary cross-entropy in nats, whatever loss a run was trained with: the sum of weight times
    loss, divided by the number of pairs. Scores are moved into [1e-7, 1 - 1e-7] for it, as Keras
    does."""
    accuracy: float
    """Weighted share of pairs on the right side of a score of 0.5."""
    roc_auc: float | None
    """Chance that a positive pair scores above a negative one, each drawn by weight; 0.5 is
    guessing."""
    average_precision: float | None
    """Area under the precision-recall curve of the weighted pairs, as a sum of steps."""
    equal_error_rate: float | None
    """Error rate at the threshold where weighted false accepts are as frequent as false rejects."""
    equal_error_threshold: float | None
    """The score at which the two error rates meet."""


def measure(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> PairFigures:
    """Measures scores against labels.

    Args:
        labels: `(pairs,)`, 0 or 1.
        scores: `(pairs,)`, probabilities that both sides belong together.
        weights: `(pairs,)`, how much each pair counts, finite and not negative; all alike when left
            out. `PairFigures` says how they enter each figure.

    Raises:
        UserError: when there is no pair, none of any weight, or a number out of its range.

    Example:
        >>> figures = measure(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9]))
        >>> figures.accuracy, figures.roc_auc
        (0.5, 0.75)
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    _require_measurable(labels, scores, weights)
    probabilities = np.clip(scores, 1e-7, 1 - 1e-7)
    losses = -np.where(labels == 1, np.log(probabilities), np.log1p(-probabilities))
    counts = weights > 0
    num_pairs, num_positives = len(labels), int(np.sum(labels == 1))
    loss = float(np.sum(weights * losses) / num_pairs)
    labels, scores, weights = labels[counts], scores[counts], weights[counts]
    both = 0 < np.sum(labels == 1) < len(labels)
    rate, threshold = _equal_error(labels, scores, weights) if both else (None, None)
    return PairFigures(
        num_pairs=num_pairs,
        num_positives=num_positives,
        loss=loss,
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


def _require_measurable(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> None:
    """Raises UserError for what no figure can be taken of."""
    if len(labels) == 0:
        raise UserError("At least one pair is needed to measure a model. Received: 0 pairs.")
    if not labels.shape == scores.shape == weights.shape == (len(labels),):
        raise UserError(
            "Labels, scores and weights must be one number a pair. Received: shapes "
            f"{labels.shape}, {scores.shape}, {weights.shape}."
        )
    rules = (
        ("A label must be 0 or 1.", "labels", labels, (labels == 0) | (labels == 1)),
        ("A score must lie between 0 and 1.", "scores", scores, (scores >= 0) & (scores <= 1)),
        ("A weight must be finite and not negative.", "weights", weights, weights >= 0),
        ("A weight must be finite and not negative.", "weights", weights, np.isfinite(weights)),
    )
    for rule, name, values, is_good in rules:
        if not is_good.all():
            pair = int(np.argmin(is_good))
            raise UserError(f"{rule} Received: {name}[{pair}]={values[pair]}.")
    if not weights.any():
        raise UserError(
            f"At least one pair must have a weight. Received: {len(weights)} pairs of weight 0."
        )


def _equal_error(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
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
