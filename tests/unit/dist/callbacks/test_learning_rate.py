"""The learning rate: scaled once, and reached step by step."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sharedlayers_dist.dist.callbacks.learning_rate import (
    LearningRateWarmup,
    scale_learning_rate,
    warmup_share,
)

SCHEDULES = keras.optimizers.schedules


@pytest.mark.parametrize(
    "schedule",
    [
        0.1,
        SCHEDULES.ExponentialDecay(0.1, 2, 0.5),
        SCHEDULES.InverseTimeDecay(0.1, 2, 0.5),
        SCHEDULES.PolynomialDecay(0.1, 5, 0.01),
        SCHEDULES.CosineDecay(0.1, 5, warmup_target=0.2, warmup_steps=2),
        SCHEDULES.CosineDecayRestarts(0.1, 3),
        SCHEDULES.PiecewiseConstantDecay([2, 4], [0.1, 0.05, 0.01]),
    ],
)
def test_every_rate_of_a_schedule_is_scaled(schedule):
    optimizer = scale_learning_rate(keras.optimizers.SGD(schedule), 4)
    for step in range(8):
        optimizer._iterations.assign(step)
        plain = schedule if isinstance(schedule, float) else schedule(step)
        np.testing.assert_allclose(float(optimizer.learning_rate), 4 * float(plain), rtol=1e-6)


def test_scaling_twice_is_refused():
    inner = keras.optimizers.SGD(0.1)
    scale_learning_rate(inner, 2)
    with pytest.raises(ValueError, match="scaled by 2 before"):
        scale_learning_rate(inner, 2)
    outer = scale_learning_rate(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), 3)
    np.testing.assert_allclose(float(outer.learning_rate), 0.3, rtol=1e-6)
    with pytest.raises(ValueError, match="scaled by 3 before"):
        scale_learning_rate(outer.inner_optimizer, 2)


def test_scaling_a_restored_optimizer_is_refused():
    optimizer = keras.optimizers.SGD(0.1)
    optimizer._iterations.assign(7)
    with pytest.raises(ValueError, match="after 7 steps"):
        scale_learning_rate(optimizer, 2)


def test_schedules_of_ones_own_are_refused():
    class Own(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    for rate in (Own(), lambda: 0.1):
        with pytest.raises(ValueError, match=r"dist\.size\(\)"):
            scale_learning_rate(keras.optimizers.SGD(rate), 2)


@pytest.mark.parametrize(
    ("progress", "num_ranks", "share"),
    [(0, 4, 0.25), (0.5, 4, 0.625), (1, 4, 1), (1.2, 4, 1), (0, 1, 1), (0.5, 1, 1)],
)
def test_warm_up_goes_from_one_ranks_rate_to_all(progress, num_ranks, share):
    assert warmup_share(progress, num_ranks) == share


def test_warm_up_of_a_schedule_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(SCHEDULES.ExponentialDecay(0.1, 2, 0.5)), "mse")
    with pytest.raises(ValueError, match="CosineDecay"):
        model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=[LearningRateWarmup()])
    with pytest.raises(ValueError, match="epochs=0"):
        LearningRateWarmup(epochs=0)


def test_warm_up_must_know_the_steps():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    callback = LearningRateWarmup()
    callback.set_model(model)
    callback.set_params({"steps": None})
    with pytest.raises(ValueError, match="steps_per_epoch=None"):
        callback.on_train_begin()
