"""Hard negatives beside a plain loop and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sharedlayers_dist.training import negatives
from sharedlayers_dist.training.negatives import (
    Window,
    cut_queries,
    find_negatives,
    make_candidates,
)


def find_all(encodings, group, key, count, window, of_item=None):
    of_item = np.arange(len(group)) if of_item is None else of_item
    candidates = make_candidates(encodings, of_item, group, key)
    blocks = cut_queries(len(group))
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(len(group)))
    found = [find_negatives(candidates, block, count, window) for block in blocks]
    return tuple(np.concatenate(part) for part in zip(*found, strict=True))


def find_one(encodings, group, key, query, window):
    """The definition, read aloud."""

    def cosine(other):
        a, b = encodings[query].astype(np.float64), encodings[other].astype(np.float64)
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    others = [place for place in range(len(group)) if key[place] != key[query]]
    positives = [cosine(place) for place in others if group[place] == group[query]]
    most = window.max_cosine
    if window.margin is not None and positives:
        most = min(most, max(positives) - window.margin)
    near = [place for place in others if group[place] != group[query] and cosine(place) <= most]
    return sorted(near, key=lambda place: (-cosine(place), place))


@pytest.mark.parametrize(
    "window", [Window(1), Window(0.5), Window(0.9, 0.0), Window(1, 0.3), Window(0, 1.5)]
)
@pytest.mark.parametrize(("most_queries", "run"), [(1, 64), (7, 3), (256, 1)])
def test_they_are_those_of_a_plain_loop(monkeypatch, window, most_queries, run):
    monkeypatch.setattr(negatives, "_MOST_QUERIES", most_queries)
    monkeypatch.setattr(negatives, "_RUN", run)
    rng = np.random.default_rng(0)
    encodings = rng.normal(size=(60, 4)).astype(np.float32)
    group = rng.integers(0, 9, 60)
    group[:2] = [20, 21]  # Without a positive.
    key = rng.integers(0, 45, 60)  # Some share one, in one group and in several.
    count = 5
    items, cosines = find_all(encodings, group, key, count, window)
    assert items.dtype == np.int32
    for query in range(60):
        expected = find_one(encodings, group, key, query, window)[:count]
        assert items[query].tolist() == expected + [-1] * (count - len(expected)), query
    unit = encodings / np.linalg.norm(encodings, axis=1, keepdims=True)
    row, number = np.nonzero(items >= 0)
    expected = (unit[row] * unit[items[row, number]]).sum(axis=1)
    np.testing.assert_allclose(cosines[row, number], expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(cosines[items < 0]).all()
    assert (items >= 0).any()


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_the_window_by_hand():
    """Of the item at 0 degrees: its positive lies at 40, others of its content count as none."""
    encodings = at_angles(0, 40, 10, 30, 50, 60)
    group, key = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 2, 3, 4, 0])

    def found(*window):
        return find_all(encodings, group, key, 3, Window(*window))[0][0].tolist()

    assert found(1) == [2, 3, 4]
    assert found(np.cos(np.radians(20))) == [3, 4, -1]
    assert found(1, 0.0) == [4, -1, -1]
    assert found(1, np.cos(np.radians(40)) - np.cos(np.radians(55))) == [-1, -1, -1]


def test_equal_items_of_other_groups_are_none():
    """Though their encodings may differ, as where case counts for the model."""
    encodings = at_angles(0, 5, 90, 95)
    items, _ = find_all(encodings, np.arange(4), np.array([7, 7, 8, 9]), 3, Window(1))
    assert items[0].tolist() == [2, 3, -1]
    assert items[1].tolist() == [2, 3, -1]


def test_ties_are_broken_by_place():
    """In any column: a matrix product may round differently at its edges."""
    rng = np.random.default_rng(1)
    encodings = rng.normal(size=(2, 37)).astype(np.float32)
    of_item = np.array([0] + [1] * 202)
    group = np.arange(203) % 101
    items, cosines = find_all(encodings, group, np.arange(203), 4, Window(1), of_item)
    assert items[0].tolist() == [1, 2, 3, 4]
    assert len(set(cosines[0].tolist())) == 1
    assert items[101 + 1].tolist() == [2, 3, 4, 5]
    nothing, _ = find_all(np.zeros((5, 3)), np.arange(5), np.arange(5), 3, Window(0))
    assert nothing[3].tolist() == [0, 1, 2]


def test_a_cosine_is_at_most_one():
    """However it was rounded: a bound of 1 leaves out nothing."""
    encodings = np.repeat(np.random.default_rng(0).normal(size=(50, 33)), 2, axis=0)
    items, cosines = find_all(encodings, np.arange(100), np.arange(100), 1, Window(1))
    np.testing.assert_array_equal(items[:, 0], np.arange(100) ^ 1)
    assert (cosines <= 1).all()


def test_more_negatives_than_items():
    items, _ = find_all(at_angles(0, 1), np.arange(2), np.arange(2), 4, Window(1))
    assert items.tolist() == [[1, -1, -1, -1], [0, -1, -1, -1]]
