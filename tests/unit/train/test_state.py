import keras
import numpy as np
import pytest

from sharedlayers_dist.train.finite import NotFiniteError
from sharedlayers_dist.train.state import HostMemory, capture, restore
from sharedlayers_dist.train.track import Position


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
