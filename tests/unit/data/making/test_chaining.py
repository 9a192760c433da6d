"""Chains: neighbours share items, labels take turns, and nothing is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharedlayers_dist.data.making.chaining import chain_rows
from sharedlayers_dist.data.making.mining import mine_pairs


def mine(sizes, positives, negatives, blocks=1, seed=0):
    group = np.repeat(np.arange(len(sizes)), sizes)
    return group, mine_pairs(
        group,
        np.arange(len(group), dtype=np.uint64),
        num_positives=positives,
        num_negatives=negatives,
        num_blocks=blocks,
        rng=np.random.default_rng(seed),
    )


def items_per_side(pairs, num_rows):
    """Different items of `num_rows` consecutive rows, over their sides; a mean."""
    starts = range(0, len(pairs.a) - num_rows + 1, num_rows)
    counts = [
        len(np.unique([pairs.a[s : s + num_rows], pairs.b[s : s + num_rows]])) for s in starts
    ]
    return np.mean(counts) / (2 * num_rows)


def test_labels_take_turns_and_neighbours_share_an_item():
    a = np.array([0, 2, 4, 1, 3, 5])
    b = np.array([1, 3, 5, 2, 4, 0])
    label = np.array([1, 1, 1, 0, 0, 0], np.int8)
    for seed in range(5):
        order = chain_rows(a, b, label, np.array([6]), np.random.default_rng(seed))
        assert sorted(order.tolist()) == list(range(6))
        assert np.all(np.diff(label[order]) != 0)
        pairs = [{x, y} for x, y in zip(a[order], b[order], strict=True)]
        assert all(len(pairs[i] & pairs[i + 1]) == 1 for i in range(5))
        assert not any(pairs[i] & pairs[i + 2] for i in range(4))  # It goes on, not back.


@given(st.data())
@settings(max_examples=100)
def test_every_row_stays_in_its_block_and_no_consecutive_rows_tell_the_label(data):
    blocks = data.draw(st.lists(st.lists(st.integers(0, 1), max_size=30), max_size=4))
    label = np.array([value for block in blocks for value in block], np.int8)
    sides = st.lists(st.integers(0, 12), min_size=len(label), max_size=len(label))
    a, b = np.array(data.draw(sides), np.int64), np.array(data.draw(sides), np.int64)
    sizes = np.array([len(block) for block in blocks], np.int64)
    order = chain_rows(a, b, label, sizes, np.random.default_rng(data.draw(st.integers(0, 9))))
    start = 0
    for size in sizes.tolist():
        stop = start + size
        assert sorted(order[start:stop].tolist()) == list(range(start, stop))
        mean = label[start:stop].mean() if size else 0
        behind = np.cumsum(label[order[start:stop]] - mean)
        assert np.ptp([0, *behind]) <= 2  # Never a pair too few or too many of one label.
        start = stop


def test_consecutive_rows_have_about_one_item_a_pair_and_many_groups():
    sizes = np.random.default_rng(2).zipf(1.6, size=2000).clip(1, 300).tolist()
    group, pairs = mine(sizes, 4096, 4096, blocks=32)
    assert items_per_side(pairs, 11) < 0.57  # 12 of 22 where no chain ends.
    assert items_per_side(pairs, 32) < 0.52
    for start in range(0, 8192, 32):
        rows = slice(start, start + 32)
        assert len(np.unique(group[np.stack([pairs.a[rows], pairs.b[rows]])])) >= 8
        assert abs(pairs.label[rows].sum() - 16) <= 1


@pytest.mark.parametrize(("positives", "most"), [(100, 1), (1000, 0.55), (1900, 0.7)])
def test_any_balance_is_spread_evenly_and_items_shared_where_the_pairs_allow_it(positives, most):
    _, pairs = mine([20] * 200, positives, 2000 - positives, blocks=8)
    positives = pairs.label.reshape(-1, 50).sum(axis=1)
    assert np.ptp(positives) <= 2
    assert items_per_side(pairs, 50) < most


def test_blocks_do_not_all_begin_with_the_same_label():
    _, pairs = mine([20] * 200, 2048, 2048, blocks=16)
    assert 3 < pairs.label[::256].sum() < 13
