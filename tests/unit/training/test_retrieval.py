"""Retrieval figures beside plain loops and cases worked by hand."""

import math

import numpy as np
import pytest

from sharedlayers_dist.training import retrieval
from sharedlayers_dist.training.retrieval import (
    FIGURES,
    choose_items,
    estimate,
    find_queries,
    measure_queries,
)


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def measure_one(encodings, group, query):
    """The definitions, read aloud."""

    def cosine(other):
        a, b = encodings[query].astype(np.float64), encodings[other].astype(np.float64)
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    others = [place for place in range(len(group)) if place != query]
    others.sort(key=lambda place: (-cosine(place), place))
    hits = [group[place] == group[query] for place in others]
    num_others = sum(hits)
    recalls = [float(any(hits[:k])) for k in (1, 5, 10)]
    first = hits.index(True) + 1
    average = 0.0
    for rank in range(1, num_others + 1):
        if hits[rank - 1]:
            average += sum(hits[:rank]) / rank
    return [*recalls, 1 / first, average / num_others]


@pytest.mark.parametrize("cosines_at_once", [1, 120, 2**20])
def test_figures_are_those_of_a_plain_loop(monkeypatch, cosines_at_once):
    monkeypatch.setattr(retrieval, "_COSINES_AT_ONCE", cosines_at_once)
    rng = np.random.default_rng(0)
    encodings = rng.normal(size=(50, 4)).astype(np.float32)
    group = np.concatenate([np.repeat(np.arange(6), [1, 2, 3, 6, 13, 24]), [9]])
    queries = find_queries(group)
    assert queries.tolist() == list(range(1, 49))
    found = measure_queries(encodings, group, queries)
    expected = [measure_one(encodings, group, query) for query in queries]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert 0 < found[:, 0].mean() < 1  # Else this says little.
    np.testing.assert_array_equal(measure_queries(encodings, group, queries[7:9]), found[7:9])


def test_figures_of_a_case_worked_by_hand():
    """Of the query at 0 degrees the others stand in the order: other, own, own, other, own."""
    encodings = at_angles(0, 10, 20, 30, 40, 50)
    group = np.array([0, 1, 0, 0, 1, 0])
    values = measure_queries(encodings, group, np.array([0]))
    # R = 3; of the three nearest the second and third are hits, of the precisions 1/2 and 2/3.
    expected = [0, 1, 1, 1 / 2, (1 / 2 + 2 / 3) / 3]
    np.testing.assert_allclose(values, [expected])


def test_the_length_of_encodings_does_not_count():
    encodings = at_angles(0, 90, 5, 95)
    group = np.array([0, 1, 0, 1])
    values = measure_queries(encodings * [[1], [1000], [0.001], [7]], group, np.arange(4))
    np.testing.assert_array_equal(values, np.ones((4, 5)))


def test_ties_are_broken_by_place():
    group = np.array([0, 1, 1, 0])
    equal = measure_queries(np.ones((4, 3), np.float32), group, np.arange(4))
    # Others of item 0: 1, 2, 3, of which the third is a hit; of item 1: 0, 2, 3; and so on.
    np.testing.assert_allclose(equal[:, 3], [1 / 3, 1 / 2, 1 / 2, 1])
    nothing = measure_queries(np.zeros((4, 3)), group, np.arange(4))
    np.testing.assert_array_equal(nothing, equal)


def test_equal_encodings_tie_in_any_column():
    """A matrix product may round differently at its edges; places decide all the same."""
    rng = np.random.default_rng(1)
    encodings = np.repeat(rng.normal(size=(1, 37)).astype(np.float32), 203, axis=0)
    encodings[0] = rng.normal(size=37)
    group = np.arange(203) % 101
    values = measure_queries(encodings, group, np.array([0]))
    assert values[0, 3] == 1 / 101  # Item 101 is the next of group 0, and the 101st other.


def test_an_interval_is_over_groups():
    """Of two groups, one perfect and one of zeros: a draw is of one of them, or of both."""
    values = np.repeat([[1.0] * 5, [0.0] * 5], [3, 1], axis=0)
    found = estimate(values, np.array([7, 7, 7, 8]), seed=0)
    assert list(found) == list(FIGURES)
    assert found["mrr"] == (0.75, 0.0, 1.0)
    assert estimate(values, np.array([7, 7, 7, 8]), seed=0) == found


def test_an_interval_is_as_wide_as_the_spread_of_means():
    """The standard error of 400 groups' mean, by the formula; and by the seed alone."""
    values = np.repeat(np.random.default_rng(2).random((400, 5)), 3, axis=0)
    group = np.repeat(np.arange(400), 3)
    found = estimate(values, group, seed=0)["map_at_r"]
    error = values[::3, 4].std() / math.sqrt(400)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert found.low < found.mean < found.high
    assert estimate(values, group, seed=1)["map_at_r"] != found


def test_items_are_chosen_by_whole_groups_in_an_order_of_the_seed():
    group = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 5))
    chosen = [choose_items(group, 33, seed=seed) for seed in (0, 0, 1)]
    assert [places.size for places in chosen] == [30, 30, 30]
    assert set(np.unique(group[chosen[0]], return_counts=True)[1]) == {5}
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert set(group[chosen[0]]) != set(group[chosen[2]])
    assert set(chosen[0]) < set(choose_items(group, 60, seed=0))  # More go on from fewer.
    assert choose_items(group, 1000, seed=0).tolist() == list(range(100))
    assert choose_items(group, 4, seed=0).size == 0
