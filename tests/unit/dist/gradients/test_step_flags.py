"""Numbers that travel with gradients, in one process; over ranks they are tested in `workers/`."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sharedlayers_dist import dist


def test_one_process_is_told_what_it_has_set():
    flags = dist.StepFlags(3)
    assert flags.sums() == [0, 0, 0]
    flags.set([True, 2, -3])
    assert flags.sums() == flags.sums() == [1, 2, -3]


def test_one_process_trains_as_without():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    before = dict(model.__dict__)
    flags = dist.StepFlags(1)
    assert dist.prepare(model, flags=flags) is model
    assert model.__dict__ == before
    with flags.travelling():
        model.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0)
    assert flags.sums() == [0]


def test_another_number_of_them_is_refused():
    with pytest.raises(ValueError, match="count=0"):
        dist.StepFlags(0)
    with pytest.raises(ValueError, match="2 numbers, count=3"):
        dist.StepFlags(3).set([1, 2])
