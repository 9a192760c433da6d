"""Distances of equal encodings are 0, not the rounding of a matrix product."""

import numpy as np
import pytest
from keras import ops

from sharedlayers_dist.losses.encodings import distances


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_equal_encodings_are_at_distance_zero_exactly(distance, scale):
    rows = np.random.default_rng(0).normal(scale=scale, size=(40, 100))
    twice = ops.convert_to_tensor(np.concatenate([rows, rows]), dtype="float32")
    found = ops.convert_to_numpy(distances(twice, twice, distance))
    is_equal = np.equal.outer(np.arange(80) % 40, np.arange(80) % 40)
    assert not found[is_equal].any()
    assert found[~is_equal].min() > (scale if distance == "euclidean" else scale**2)
