"""Counting what is below each bound, against NumPy's search in each row."""

import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist.losses.counting import count_below


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("or_equal", [False, True])
def test_counts_are_those_of_a_search_in_each_row(or_equal, jit_compile):
    counting = tf.function(
        lambda ordered, bounds: count_below(ordered, bounds, or_equal=or_equal),
        input_signature=2 * [tf.TensorSpec([None, None], "float32")],
        jit_compile=jit_compile,
    )
    rng = np.random.default_rng(0)
    for length in (1, 2, 3, 4, 7, 8, 9, 33):
        ordered = np.sort(rng.integers(0, 9, (5, length)), axis=1).astype("float32")
        bounds = rng.integers(-1, 11, (5, 12)).astype("float32")
        rows = zip(ordered, bounds, strict=True)
        expected = [
            np.searchsorted(values, of_row, side="right" if or_equal else "left")
            for values, of_row in rows
        ]
        np.testing.assert_array_equal(counting(ordered, bounds), expected)


def test_nothing_is_below_a_bound_that_is_nan():
    assert (
        not count_below(np.ones((1, 3), "float32"), np.full((1, 2), np.nan, "float32"))
        .numpy()
        .any()
    )
