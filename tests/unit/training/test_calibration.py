"""Scale and bias of a cosine: those that scikit-learn finds, and finite where it finds none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sharedlayers_dist.training.calibration import fit_scale_and_bias


def test_it_is_the_logistic_regression_of_the_labels():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000).astype(float)
    cosines = np.clip(rng.normal(0.2 + 0.3 * labels, 0.3), -1, 1)
    weights = rng.uniform(0, 2, labels.size)
    scale, bias = fit_scale_and_bias(cosines, labels, weights)
    known = LogisticRegression(C=np.inf, tol=1e-10).fit(cosines[:, None], labels, weights)
    assert scale == pytest.approx(known.coef_[0, 0], rel=1e-3)
    assert bias == pytest.approx(known.intercept_[0], rel=1e-3)


def test_a_weight_counts_as_often_as_a_pair_is_there():
    cosines, labels = np.array([0.9, 0.3, 0.2, 0.8]), np.array([1.0, 1, 0, 0])
    weighted = fit_scale_and_bias(cosines, labels, np.array([3.0, 1, 2, 0]))
    rows = [0, 0, 0, 1, 2, 2]
    assert weighted == pytest.approx(fit_scale_and_bias(cosines[rows], labels[rows], np.ones(6)))


@pytest.mark.parametrize(
    "cosines", [[1.0, 0.9999, -1, -1], [0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1], [1 - 1e-7, 1, 1, 1]]
)
def test_it_ends_with_finite_numbers(cosines):
    """Pairs told apart without an error, none told apart, the wrong way round, all but equal."""
    found = fit_scale_and_bias(np.array(cosines, float), np.array([1.0, 1, 0, 0]), np.ones(4))
    assert np.isfinite(found).all()


def test_cosines_that_tell_nothing_give_the_share_of_positives():
    scale, bias = fit_scale_and_bias(
        np.full(400, 0.25), np.repeat([1.0, 0.0], [100, 300]), np.ones(400)
    )
    assert 1 / (1 + np.exp(-(scale * 0.25 + bias))) == pytest.approx(0.25, abs=5e-3)
