import numpy as np
import pytest
from sklearn import metrics

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate import measure


def test_figures_agree_with_their_definitions():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    scores = np.clip(0.25 * labels + rng.random(500) * 0.75, 0, 1)
    figures = measure(labels, scores)
    above = scores[labels == 1][:, None] > scores[labels == 0]
    assert figures.roc_auc == pytest.approx(above.mean())
    assert figures.loss == pytest.approx(metrics.log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)))
    assert figures.accuracy == pytest.approx(((scores > 0.5) == labels).mean())
    assert (figures.num_pairs, figures.num_positives) == (500, labels.sum())


def test_equal_error_rate_is_where_both_errors_meet():
    labels = np.repeat([0, 1], 100)
    scores = np.concatenate([np.linspace(0, 0.6, 100), np.linspace(0.4, 1, 100)])
    figures = measure(labels, scores)
    threshold = figures.equal_error_threshold
    false_accepts = (scores[labels == 0] >= threshold).mean()
    false_rejects = (scores[labels == 1] < threshold).mean()
    assert false_accepts == pytest.approx(false_rejects, abs=0.011)
    assert figures.equal_error_rate == pytest.approx(false_accepts, abs=0.011)


@pytest.mark.parametrize(("scores", "rate"), [([0, 0, 1, 1], 0.0), ([1, 1, 0, 0], 1.0)])
def test_equal_error_rate_of_perfect_and_of_inverted_scores(scores, rate):
    assert measure(np.array([0, 0, 1, 1]), np.array(scores)).equal_error_rate == rate


def test_one_kind_of_pairs_leaves_the_comparing_figures_undefined():
    figures = measure(np.ones(3), np.array([0.2, 0.7, 0.9]))
    assert figures.roc_auc is None
    assert figures.equal_error_rate is None
    assert figures.accuracy == pytest.approx(2 / 3)


def test_a_pair_of_weight_two_counts_like_two_pairs():
    labels, scores = np.array([0, 1, 1, 0]), np.array([0.3, 0.2, 0.9, 0.6])
    twice = np.array([0, 1, 2, 2, 3])
    weighted = measure(labels, scores, np.array([1.0, 1.0, 2.0, 1.0]))
    repeated = measure(labels[twice], scores[twice])
    assert weighted.roc_auc == pytest.approx(repeated.roc_auc)
    assert 4 * weighted.loss == pytest.approx(5 * repeated.loss)  # Each by its number of pairs.
    assert weighted.accuracy == pytest.approx(repeated.accuracy)


def test_no_pairs_cannot_be_measured():
    with pytest.raises(ValueError, match="0 pairs"):
        measure(np.array([]), np.array([]))


def test_the_loss_divides_by_the_pairs_and_all_else_by_the_weights():
    labels, scores = np.array([0, 1, 1, 0]), np.array([0.3, 0.2, 0.9, 0.6])
    weights = np.array([1.0, 0.0, 2.0, 1.0])
    figures = measure(labels, scores, weights)
    assert figures.loss == pytest.approx(-(np.log(0.7) + 2 * np.log(0.9) + np.log(0.4)) / 4)
    counted = measure(labels[weights > 0], scores[weights > 0], weights[weights > 0])
    assert figures.accuracy == pytest.approx(3 / 4)
    assert figures.roc_auc == counted.roc_auc == 1
    assert figures.equal_error_rate == counted.equal_error_rate
    assert (figures.num_pairs, figures.num_positives) == (4, 2)


def test_pairs_of_one_kind_with_any_weight_leave_the_comparing_figures_undefined():
    figures = measure(np.array([0, 1]), np.array([0.2, 0.7]), np.array([0.0, 1.0]))
    assert figures.roc_auc is None
    assert figures.accuracy == 1


@pytest.mark.parametrize(
    ("labels", "scores", "weights", "message"),
    [
        ([0, 1], [0.5, np.nan], None, r"scores\[1\]=nan"),
        ([0, 1], [0.5, 1.5], None, r"between 0 and 1. Received: scores\[1\]=1.5"),
        ([0, 2], [0.5, 0.5], None, r"labels\[1\]=2"),
        ([0, 1], [0.5, 0.5], [1, -1], r"weights\[1\]=-1"),
        ([0, 1], [0.5, 0.5], [np.inf, 1], r"weights\[0\]=inf"),
        ([0, 1], [0.5, 0.5], [0, 0], "2 pairs of weight 0"),
        ([0, 1], [0.5], None, r"shapes \(2,\), \(1,\)"),
        ([[0], [1]], [[0.5], [0.5]], None, r"shapes \(2, 1\)"),
    ],
)
def test_numbers_out_of_their_range_are_refused(labels, scores, weights, message):
    weights = None if weights is None else np.array(weights)
    with pytest.raises(UserError, match=message):
        measure(np.array(labels), np.array(scores), weights)
