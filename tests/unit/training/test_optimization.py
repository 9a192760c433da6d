"""Optimizer, loss and learning rate by name."""

import keras
import pytest

from sharedlayers_dist.config import OptimizationConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.training.optimization import (
    learning_rate_of_step,
    make_loss,
    make_optimizer,
)


def test_the_default_is_the_notebooks():
    optimizer = make_optimizer(OptimizationConfig())
    assert type(optimizer) is keras.optimizers.RMSprop
    assert float(optimizer.learning_rate) == pytest.approx(0.001)
    assert make_loss(OptimizationConfig()) == "binary_crossentropy"


def test_arguments_reach_the_optimizer():
    optimizer = make_optimizer(
        OptimizationConfig(
            optimizer="AdamW",
            optimizer_options={"beta_1": 0.8, "use_ema": True},
            learning_rate=0.01,
            clip_norm=2.0,
            weight_decay=0.1,
        )
    )
    config = optimizer.get_config()
    assert type(optimizer) is keras.optimizers.AdamW
    assert (config["beta_1"], config["use_ema"]) == (0.8, True)
    assert (config["global_clipnorm"], config["weight_decay"]) == (2.0, 0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "adamm"}, "`optimizer` must be one of Keras's by name.*AdamW.*SGD"),
        ({"loss": "crossentropy"}, "`loss` must be one of Keras's by name.*BinaryCrossentropy"),
        ({"optimizer_options": {"beta_9": 1}}, "must be arguments of the optimizer.*beta_9"),
        ({"loss_options": {"label_smoothing": 1, "x": 2}}, "must be arguments of the loss.*x"),
        ({"optimizer_options": {"learning_rate": 1}}, "learning_rate has an option of its own"),
        (
            {"clip_norm": 1.0, "optimizer_options": {"global_clipnorm": 1}},
            "global_clipnorm has an option of its own",
        ),
    ],
)
def test_what_keras_does_not_know_is_refused(options, said):
    make = make_loss if "loss" in next(iter(options)) else make_optimizer
    with pytest.raises(UserError, match=said):
        make(OptimizationConfig(**options))


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ({"warmup_steps": 2}, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ({"schedule": "linear", "warmup_steps": 2}, [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ({"schedule": "linear"}, [1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ({"schedule": "cosine", "warmup_steps": 2}, [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
        ({"schedule": "cosine", "warmup_steps": 9}, [step / 9 for step in range(1, 7)]),
    ],
)
def test_a_step_has_its_learning_rate(options, rates):
    options = OptimizationConfig(learning_rate=1.0, **options)
    found = [learning_rate_of_step(step, options, num_steps=6) for step in range(6)]
    assert found == pytest.approx(rates, abs=1e-6)


def test_a_cosine_is_that_of_keras():
    options = OptimizationConfig(learning_rate=0.3, schedule="cosine")
    keras_schedule = keras.optimizers.schedules.CosineDecay(0.3, 20)
    for step in range(20):
        assert learning_rate_of_step(step, options, num_steps=20) == pytest.approx(
            float(keras_schedule(step)), rel=1e-5
        )
