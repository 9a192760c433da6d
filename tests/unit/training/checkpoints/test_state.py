import keras
import ml_dtypes
import numpy as np
import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.files import (
    Checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from sharedlayers_dist.training.checkpoints.state import HostMemory, capture, restore
from sharedlayers_dist.training.finite import NotFiniteError
from sharedlayers_dist.training.position import Position


def make_model(units=3, dtype="float32"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, dtype=dtype)])
    model.compile(keras.optimizers.RMSprop(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def take(model, memory, step=1):
    return capture(model, {}, Position(step=step), {"extra": 1}, memory)


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


def make_towers(*names):
    """Two layers of one shape, one after the other."""
    layers = [keras.layers.Dense(4, name=name) for name in names]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.RMSprop(), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize(
    ("saved", "built"),
    [(("left", "right"), ("right", "left")), (("tower_1", "tower_2"), ("tower_2", "tower_1"))],
)
def test_layers_of_one_shape_are_not_swapped(saved, built):
    checkpoint = take(make_towers(*saved), HostMemory())
    model = make_towers(*built)
    before = values(model)
    with pytest.raises(UserError, match=f"a checkpoint with '[^']*{saved[0]}/kernel' where"):
        restore(model, checkpoint)
    assert values(model) == before


def test_layers_that_keras_has_numbered_otherwise_are_the_same():
    checkpoint = take(make_towers(None, None), HostMemory())
    model = make_towers(None, None)
    assert [v.path for v in model.variables] != checkpoint.state["names"]["model"]
    restore(model, checkpoint)
    assert values(model)[0] == checkpoint.part("model")[0].tobytes()


@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2", "int8", "bool"]
)
def test_numbers_of_every_type_come_back(dtype, tmp_path):
    array = np.asarray([[0, 1, 2]]).astype(getattr(ml_dtypes, dtype, dtype))
    checkpoint = Checkpoint(step=1, tensors={"model.00000": array}, state={"position": {}})
    run = LocalFolder(tmp_path)
    write_checkpoint(run, checkpoint, {})
    found = read_checkpoint(run, "step-00000001").tensors["model.00000"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def test_bfloat16_weights_come_back(tmp_path):
    model, other = make_model(dtype="bfloat16"), make_model(dtype="bfloat16")
    run = LocalFolder(tmp_path)
    write_checkpoint(run, take(model, HostMemory()), {})
    restore(other, read_checkpoint(run, "step-00000001"))
    assert values(other) == values(model)
