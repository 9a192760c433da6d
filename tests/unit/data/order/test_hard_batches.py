"""Batches in which items meet those that they are hard to tell from."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sharedlayers_dist.data.order.pk_batches import plan_groups


@st.composite
def epochs(draw):
    """Groups, negatives of another group for some of their items, and options."""
    groups = np.array(draw(st.lists(st.integers(0, 8), min_size=3, max_size=80)))
    sizes = np.bincount(groups)
    assume(np.count_nonzero(sizes) > 1 and sizes.max() > 1)
    options = {
        "groups_per_batch": draw(st.integers(2, 6)),
        "items_per_group": draw(st.integers(2, 5)),
        "seed": draw(st.integers(0, 9)),
        "epoch": draw(st.integers(0, 9)),
    }
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    negatives = rng.integers(-1, len(groups), (len(groups), draw(st.integers(1, 4))))
    negatives[groups[negatives] == groups[:, None]] = -1
    return groups, negatives, options


def count_chunks(groups, plan, step):
    """Chunks of each group in a batch."""
    starts = plan.chunk_starts[plan.batch_starts[step] : plan.batch_starts[step + 1]]
    return np.bincount(groups[plan.items[starts]], minlength=groups.max() + 1)


@given(epochs(), st.booleans())
def test_items_and_batches_are_as_many_as_without_negatives(epoch, whole_chunks):
    groups, negatives, options = epoch
    if whole_chunks:
        assume(np.count_nonzero(np.bincount(groups) >= options["items_per_group"]) > 1)
    plan = plan_groups(groups, **options, whole_chunks=whole_chunks, negatives=negatives)
    without = plan_groups(groups, **options, whole_chunks=whole_chunks)
    assert sorted(plan.items.tolist()) == sorted(without.items.tolist())
    assert len(set(plan.items.tolist())) == plan.items.size
    np.testing.assert_array_equal(plan.batch_starts, without.batch_starts)
    chunks = np.split(groups[plan.items], plan.chunk_starts[1:-1])
    assert all(len(set(chunk.tolist())) == 1 for chunk in chunks)


@given(epochs(), st.booleans())
def test_a_group_is_spread_evenly_over_batches(epoch, whole_chunks):
    """So no two of its chunks are in one batch, unless it has more chunks than there are."""
    groups, negatives, options = epoch
    k, sizes = options["items_per_group"], np.bincount(groups)
    if whole_chunks:
        assume(np.count_nonzero(sizes >= k) > 1)
    plan = plan_groups(groups, **options, whole_chunks=whole_chunks, negatives=negatives)
    chunks_of_group = sizes // k if whole_chunks else -(-sizes // k)
    for step in range(plan.num_steps):
        found = count_chunks(groups, plan, step)
        assert (found <= -(-chunks_of_group // plan.num_steps)).all()
        assert (found >= chunks_of_group // plan.num_steps).all()


def share_that_meets(plan, negatives):
    """The share of items' negatives that are in the same batch."""
    step_of_item = np.empty(len(negatives), int)
    for step in range(plan.num_steps):
        step_of_item[plan.items_of_step(step)] = step
    item, _ = np.nonzero(negatives >= 0)
    return np.mean(step_of_item[negatives[negatives >= 0]] == step_of_item[item])


@pytest.mark.parametrize("whole_chunks", [False, True])
@pytest.mark.parametrize("large", [0, 300])
def test_items_meet_their_negatives_far_more_often_than_by_chance(whole_chunks, large):
    """Items of 3 neighbouring groups each; with and without a group that is in each batch."""
    groups = np.concatenate([np.repeat(np.arange(300), 4), np.full(large, 300)])
    rng = np.random.default_rng(0)
    near = (groups // 3 * 3)[:, None] + rng.integers(0, 3, (groups.size, 8))
    negatives = near * 4 + rng.integers(0, 4, near.shape)
    negatives[(near == groups[:, None]) | (near >= 300)] = -1
    options: dict[str, Any] = {"groups_per_batch": 12, "items_per_group": 2, "seed": 0, "epoch": 1}
    options["whole_chunks"] = whole_chunks
    random = share_that_meets(plan_groups(groups, **options), negatives)
    mined = share_that_meets(plan_groups(groups, **options, negatives=negatives), negatives)
    assert random < 0.05
    assert mined > 0.4  # Of each group's two chunks, one can meet an item at most.


def test_the_nearest_come_first():
    """Where a batch has not room for all."""
    groups = np.repeat(np.arange(40), 2)
    # Of an even group the next one; of both of its items some farther ones of all others.
    negatives = np.random.default_rng(0).integers(0, 80, (80, 5))
    negatives[:, 0] = np.arange(80) ^ 2
    negatives[groups[negatives] == groups[:, None]] = -1
    options: dict[str, Any] = {"groups_per_batch": 4, "items_per_group": 2, "seed": 0, "epoch": 1}
    plan = plan_groups(groups, **options, negatives=negatives)
    nearest, farthest = (share_that_meets(plan, negatives[:, n : n + 1]) for n in (0, 4))
    assert nearest > max(2 * farthest, 0.4)
    one = plan_groups(groups, **options, negatives=negatives[:, :1])
    assert share_that_meets(one, negatives[:, :1]) == 1


def test_without_any_negative_batches_are_as_random_as_ever():
    groups = np.repeat(np.arange(200), 4)
    options: dict[str, Any] = {"groups_per_batch": 8, "items_per_group": 2, "seed": 0}
    nothing = np.full((800, 3), -1)
    plans = [plan_groups(groups, **options, epoch=e, negatives=nothing) for e in (1, 1, 2)]
    np.testing.assert_array_equal(plans[0].items, plans[1].items)
    steps = [np.array([p.items_of_step(s) for s in range(p.num_steps)]) // 4 for p in plans]
    assert share_of_equal_pairs(steps[0], steps[2]) < 0.1


def share_of_equal_pairs(groups_of_step, others):
    """The share of pairs of groups that meet in batches of both plans."""
    found = [
        {(a, b) for step in steps for a in set(step) for b in set(step) if a < b}
        for steps in (groups_of_step.tolist(), others.tolist())
    ]
    return len(found[0] & found[1]) / len(found[0])


def test_a_group_of_a_seventh_of_all_items_is_spread_over_the_epoch():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 400, 40_000)
    groups[:6000] = 0
    negatives = rng.integers(0, 40_000, (40_000, 4))
    options: dict[str, Any] = {"groups_per_batch": 16, "items_per_group": 4, "seed": 0, "epoch": 1}
    plan = plan_groups(groups, **options, negatives=negatives)
    assert plan.items.size == 40_000
    found = {int(count_chunks(groups, plan, step)[0]) for step in range(plan.num_steps)}
    assert found == {2, 3}
