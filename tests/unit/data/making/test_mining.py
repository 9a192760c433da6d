"""Pairs and splits: invariants over random groups, and the rules in small readable cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharedlayers_dist.data.making.mining import allot_evenly, count_possible, mine_pairs
from sharedlayers_dist.data.making.splitting import (
    LEFT_OUT,
    is_repeated,
    keep_in_first_set,
    split_groups,
    split_items,
)


def items_of(sizes, shared_keys=()):
    """Groups of items; `shared_keys` lists (group, position) of items that hold equal content."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    key = np.arange(len(group), dtype=np.uint64)
    starts = np.cumsum(sizes) - np.array(sizes)
    for index, (of_group, place) in enumerate(shared_keys):
        key[starts[of_group] + place] = 10_000
        assert index < len(sizes)
    return group, key


def mine(group, key, positives, negatives, blocks=1, seed=0):
    return mine_pairs(
        group,
        key,
        num_positives=positives,
        num_negatives=negatives,
        num_blocks=blocks,
        rng=np.random.default_rng(seed),
    )


def block_of_row(pairs):
    return np.repeat(np.arange(len(pairs.rows_per_block)), pairs.rows_per_block)


def assert_valid(pairs, group, key, positives, negatives):
    unordered = {frozenset(pair) for pair in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)}
    assert len(unordered) == len(pairs.a) == positives + negatives  # None twice in either order.
    assert all(len(pair) == 2 for pair in unordered)  # None of an item with itself.
    assert np.array_equal(pairs.label == 1, group[pairs.a] == group[pairs.b])
    assert np.count_nonzero(pairs.label) == positives
    assert np.all(key[pairs.a] != key[pairs.b])
    assert pairs.rows_per_block.sum() == len(pairs.a)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_number_of_pairs_up_to_the_possible_ones_can_be_made(data):
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=12))
    sharing = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    group, key = items_of(sizes, [(index, 0) for index in sharing])
    possible = count_possible(group, key)
    listed = [
        (group[i] == group[j], key[i] == key[j])
        for i, j in itertools.combinations(range(len(group)), 2)
    ]
    assert possible.positives == sum(same for same, _ in listed)
    assert possible.negatives == sum(not same and not equal for same, equal in listed)
    positives = data.draw(st.integers(0, possible.positives))
    negatives = data.draw(st.integers(0, possible.negatives))
    blocks = data.draw(st.integers(1, 5))
    pairs = mine(group, key, positives, negatives, blocks, seed=data.draw(st.integers(0, 3)))
    assert_valid(pairs, group, key, positives, negatives)


@pytest.mark.parametrize(
    ("capacity", "total", "expected"),
    [
        ([10, 10, 10], 6, [2, 2, 2]),
        ([0, 1, 100], 9, [0, 1, 8]),
        ([3, 1, 45], 7, [3, 1, 3]),
        ([1, 1, 1], 3, [1, 1, 1]),
        ([5], 0, [0]),
    ],
)
def test_everyone_gets_the_same_or_all_it_can_take(capacity, total, expected):
    allotted = allot_evenly(np.array(capacity), total, np.random.default_rng(0))
    assert allotted.tolist() == expected


def test_an_uneven_rest_goes_to_those_with_room():
    allotted = allot_evenly(np.array([1, 9, 9, 9]), 9, np.random.default_rng(0))
    assert allotted[0] == 1
    assert sorted(allotted[1:]) == [2, 3, 3]


def test_no_group_dominates_the_positives():
    sizes = [400, 40, 20, 10, 5, 3, 2, 1]
    group, key = items_of(sizes)
    pairs = mine(group, key, 200, 200, blocks=2)
    per_group = np.bincount(group[pairs.a[pairs.label == 1]], minlength=len(sizes))
    assert per_group[-3:].tolist() == [3, 1, 0]  # All that 3, 2 and 1 items have.
    assert per_group[3:5].tolist() == [45, 10]
    assert max(per_group[:3]) - min(per_group[:3]) <= 1


def test_groups_of_one_item_are_in_negatives_only():
    group, key = items_of([3, 1, 1])
    pairs = mine(group, key, 3, 7)  # All there are.
    singles = group[pairs.a[pairs.label == 0]].tolist() + group[pairs.b[pairs.label == 0]].tolist()
    assert set(singles) == {0, 1, 2}
    assert set(group[pairs.a[pairs.label == 1]]) == {0}


def test_neither_an_item_nor_a_group_tells_the_label():
    rng = np.random.default_rng(1)
    group, key = items_of(rng.integers(2, 40, size=150).tolist())
    pairs = mine(group, key, 2000, 2000, blocks=8)
    sides = np.stack([pairs.a, pairs.b], axis=1)
    uses = [
        np.bincount(sides[pairs.label == label].ravel(), minlength=len(group)) for label in (0, 1)
    ]
    assert np.abs(uses[0] - uses[1]).sum() <= 0.01 * uses[0].sum()


def test_the_items_of_a_group_are_used_equally_often():
    group, key = items_of([30, 7])
    pairs = mine(group, key, 60, 10)
    of_large = (pairs.label == 1) & (group[pairs.a] == 0)
    uses = np.bincount(np.concatenate([pairs.a[of_large], pairs.b[of_large]]), minlength=30)
    assert uses.max() - uses.min() <= 2


def test_blocks_share_items_and_mix_groups_and_labels():
    rng = np.random.default_rng(2)
    group, key = items_of(rng.zipf(1.6, size=2000).clip(1, 300).tolist())
    pairs = mine(group, key, 4000, 4000, blocks=8)
    for block in range(8):
        rows = block_of_row(pairs) == block
        sides = np.concatenate([pairs.a[rows], pairs.b[rows]])
        assert len(np.unique(sides)) < 0.35 * len(sides)
        assert len(np.unique(group[sides])) > 40
        assert abs(pairs.label[rows].mean() - 0.5) < 0.01
        assert np.abs(np.diff(pairs.label[rows])).sum() > rows.sum() / 3  # Labels are mixed.
    assert np.ptp(pairs.rows_per_block) <= 2


def test_every_block_has_pairs_of_most_groups():
    group, key = items_of([60] * 20)
    pairs = mine(group, key, 4000, 4000, blocks=8)
    for block in range(8):
        positives = (block_of_row(pairs) == block) & (pairs.label == 1)
        assert len(np.unique(group[pairs.a[positives]])) >= 18


@pytest.mark.parametrize(("positives", "negatives"), [(0, 500), (500, 0), (50, 950), (900, 100)])
def test_any_balance_can_be_asked_for(positives, negatives):
    sizes = [200, 30, 20, 10, 10, 5, 5, 5, 1, 1]
    group, key = items_of(sizes)
    pairs = mine(group, key, positives, negatives, blocks=3)
    assert_valid(pairs, group, key, positives, negatives)
    if negatives > positives:
        sides = np.concatenate([pairs.a[pairs.label == 0], pairs.b[pairs.label == 0]])
        assert np.bincount(group[sides])[0] < 0.35 * len(sides)  # It has 70% of the items.


def test_the_seed_decides_and_nothing_else():
    group, key = items_of([20, 10, 10, 5])
    first, again, other = (mine(group, key, 40, 40, 2, seed=seed) for seed in (3, 3, 4))
    assert all(np.array_equal(x, y) for x, y in zip(first, again, strict=True))
    assert not np.array_equal(first.a, other.a)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=30, max_size=200),
    seed=st.integers(0, 5),
)
def test_groups_are_split_close_to_the_shares(sizes, seed):
    shares = (0.8, 0.1, 0.1)
    set_of_group = split_groups(np.array(sizes), shares, np.random.default_rng(seed))
    for index, share in enumerate(shares):
        items = np.array(sizes)[set_of_group == index]
        assert abs(items.sum() - share * sum(sizes)) <= 61  # Two groups and one item.


def test_all_sets_get_groups_of_all_sizes():
    sizes = (2000 / (np.arange(2000) + 10)).astype(int) + 1
    set_of_group = split_groups(sizes, (0.8, 0.1, 0.1), np.random.default_rng(0))
    means = [sizes[set_of_group == index].mean() for index in range(3)]
    assert max(means) < 1.25 * min(means)


def test_every_set_can_hold_both_labels_even_with_few_groups():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        set_of_group = split_groups(np.array([90, 5, 5, 4, 3, 2, 1, 1]), (0.8, 0.1, 0.1), rng)
        assert all(np.count_nonzero(set_of_group[:6] == index) >= 2 for index in range(3))


def test_sets_without_a_share_get_nothing():
    rng = np.random.default_rng(0)
    assert set(split_groups(np.full(50, 3), (0.9, 0.0, 0.1), rng)) == {0, 2}
    assert set(split_items(np.repeat(np.arange(5), 30), (0.9, 0.0, 0.1), rng)) == {0, 2}


def test_every_group_is_divided_alike_when_items_are_split():
    group = np.repeat(np.arange(10), 180)
    set_of_item = split_items(group, (0.8, 0.1, 0.1), np.random.default_rng(0))
    counts = np.array(
        [np.bincount(set_of_item[group == index], minlength=3) for index in range(10)]
    )
    assert np.all(np.abs(counts - [144, 18, 18]) <= 3)


def test_repeated_content_is_found_within_a_group_only():
    group = np.array([0, 1, 0, 0, 1])
    key = np.array([7, 7, 7, 8, 7], np.uint64)
    assert is_repeated(group, key).tolist() == [False, False, True, False, True]


def test_content_of_several_sets_stays_in_the_first():
    set_of_item = np.array([2, 0, 1, 1, LEFT_OUT, 0], np.int8)
    key = np.array([5, 5, 6, 5, 6, 5], np.uint64)
    expected = [LEFT_OUT, 0, 1, LEFT_OUT, LEFT_OUT, 0]
    assert keep_in_first_set(set_of_item, key).tolist() == expected
