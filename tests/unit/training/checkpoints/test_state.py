import keras
import numpy as np
import pytest

from sharedlayers_dist.training.checkpoints.state import HostMemory, capture, restore
from sharedlayers_dist.training.finite import NotFiniteError
from sharedlayers_dist.training.position import Position


def make_model(units=3, dtype="float32"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, dtype=dtype)])
    model.compile(keras.optimizers.RMSprop(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def take(model, memory, step=1):
    return capture(model, [], Position(step=step), {"extra": 1}, memory)


def values(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(v.value.numpy()).tobytes() for v in variables]


def test_a_model_and_its_optimizer_come_back_bit_for_bit():
    model, other, memory = make_model(), make_model(), HostMemory()
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))
    checkpoint = take(model, memory)
    assert checkpoint.state["position"] == {"epoch": 0, "step_of_epoch": 0, "step": 1}
    assert checkpoint.state["extra"] == 1
    before = values(model)
    model.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))  # The copies must not change with it.
    assert values(model) != before
    restore(other, checkpoint)
    assert values(other) == before


def test_random_numbers_and_the_loss_scale_go_on():
    """Dropout in half precision: what the next step gives hangs on both."""

    def make():
        layers = [keras.layers.Dropout(0.5), keras.layers.Dense(3, dtype="mixed_float16")]
        model = keras.Sequential([keras.Input((64,)), *layers])
        scaled = keras.optimizers.LossScaleOptimizer(
            keras.optimizers.RMSprop(), initial_scale=2.0**8, dynamic_growth_steps=2
        )
        model.compile(scaled, "mse")
        scaled.build(model.trainable_variables)
        return model

    def step(model):
        model.train_on_batch(np.ones((4, 64)), np.ones((4, 3)))

    model, other = make(), make()
    for _ in range(3):
        step(model)
    assert float(model.optimizer.dynamic_scale) == 2.0**9
    checkpoint = take(model, HostMemory())
    assert any("seed_generator" in name for name in checkpoint.state["names"]["model"])
    step(model)
    restore(other, checkpoint)
    assert float(other.optimizer.dynamic_scale) == 2.0**9
    step(other)
    assert values(other) == values(model)
    assert float(other.optimizer.dynamic_scale) == 2.0**10


def test_copies_take_the_same_memory_again():
    model, memory = make_model(), HostMemory()
    first, second = take(model, memory), take(model, memory)
    assert first.tensors.keys() == second.tensors.keys()
    assert all(first.tensors[name] is second.tensors[name] for name in first.tensors)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types_are_copied_too(dtype):
    model = make_model(dtype=dtype)
    kernel = model.layers[0].kernel
    copied = take(model, HostMemory()).part("model")[0]
    assert copied.dtype.name == dtype
    assert copied.tobytes() == kernel.value.numpy().tobytes()


def test_another_model_is_refused():
    checkpoint = take(make_model(), HostMemory())
    message = r"fits the model .* \[\(4, 3\), \(3,\)\], where this model's has \[\(4, 5\), \(5,\)\]"
    with pytest.raises(ValueError, match=message):
        restore(make_model(units=5), checkpoint)


def test_weights_that_are_not_finite_are_not_saved():
    model = make_model()
    model.layers[0].bias.assign([0, np.inf, 0])
    with pytest.raises(NotFiniteError, match="bias at step 7"):
        take(model, HostMemory(), step=7)
