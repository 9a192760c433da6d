"""The different items of a batch of pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharedlayers_dist.data.reading.shared_items import make_inputs, share_items


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=70),
    st.sampled_from(["uint8", "int32", "float32", "float64"]),
    st.sampled_from([(1,), (3,), (2, 2, 1)]),
)
def test_each_different_item_is_there_once(pairs, dtype, shape):
    numbers = np.array(pairs)
    a, b = (
        np.broadcast_to(side.reshape(-1, *[1] * len(shape)), (len(side), *shape)).astype(dtype)
        for side in numbers.T
    )
    shared = share_items(a, b)
    np.testing.assert_array_equal(shared.items[shared.a], a)
    np.testing.assert_array_equal(shared.items[shared.b], b)
    num_distinct = len(set(numbers.ravel().tolist()))
    assert shared.a.max(initial=0) < num_distinct
    assert shared.b.max(initial=0) < num_distinct
    assert not shared.items[num_distinct:].any()
    assert (shared.items.dtype, shared.items.shape[1:]) == (a.dtype, shape)


def test_items_that_differ_by_the_last_byte_alone_are_two():
    a, b = np.zeros((2, 1, 280), np.uint16)
    b[0, -1] = 1
    assert share_items(a, b).b.tolist() == [1]


def test_batches_of_a_size_have_few_numbers_of_items():
    rng = np.random.default_rng(0)
    sizes = {len(share_items(*rng.integers(0, most, (2, 50, 1))).items) for most in range(2, 200)}
    assert len(sizes) <= 16


@pytest.mark.parametrize("b", [np.zeros((3, 4), np.int64), np.zeros((3, 5), np.int32)])
def test_sides_that_are_not_alike_share_nothing(b):
    a = np.zeros((3, 4), np.int32)
    assert set(make_inputs(a, b, shares_items=True)) == {"a", "b"}
    assert set(make_inputs(a, a, shares_items=False)) == {"a", "b"}
    assert set(make_inputs(a, a, shares_items=True)) == {"a", "b", "items"}
