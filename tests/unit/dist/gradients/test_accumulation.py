"""Gradients that one process accumulates: what an update is made of, and how that is resumed."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import dist
from tests.distributed.environments import without_packages
from tests.distributed.launcher import REPOSITORY

PASSES = 3
SIZES = (8, 8, 5, 8, 2)
"""Rows of the batches of an epoch, which is no multiple of the passes."""


class Batches(keras.utils.PyDataset):
    """Batches of unequal size; or every `PASSES` of them in one."""

    def __init__(self, sizes, *, epochs=1, joined=False):
        super().__init__()
        rng = np.random.default_rng(0)
        x = rng.normal(size=(sum(sizes), 4)).astype("float32")
        bounds = np.cumsum(sizes)[:-1]
        batches = np.split(x, bounds) * epochs
        if joined:
            whole = len(batches) - len(batches) % PASSES
            batches = [np.concatenate(batches[i : i + PASSES]) for i in range(0, whole, PASSES)]
        self._batches = [(x, (x.sum(1, keepdims=True) > 0).astype("float32")) for x in batches]

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._batches[index]


def make_model(optimizer, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer, "binary_crossentropy", **options)
    return model


def accumulating(**options):
    return dist.DistributedOptimizer(
        keras.optimizers.Adam(0.05),
        backward_passes_per_step=PASSES,
        average_aggregated_gradients=True,
        **options,
    )


def fit(model, data, epochs=1):
    model.fit(data, epochs=epochs, shuffle=False, verbose=0, callbacks=dist.default_callbacks())


def values(model):
    accumulated = dist.accumulated_gradients(model.optimizer)
    arrays = [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
    return [np.asarray(a) for a in [*arrays, *accumulated]]


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}])
def test_passes_are_one_step_over_all_their_samples_through_the_ends_of_epochs(options):
    """Of two epochs of five steps, nine are in three updates, and one waits for more."""
    model = make_model(accumulating(), **options)
    fit(model, Batches(SIZES), epochs=2)
    expected = make_model(keras.optimizers.Adam(0.05))
    expected.fit(Batches(SIZES, epochs=2, joined=True), shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 3
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    passes, samples, *sums = dist.accumulated_gradients(model.optimizer)
    assert (int(passes), float(samples)) == (1, SIZES[-1])
    assert [s.shape for s in sums] == [w.shape for w in model.get_weights()]
    assert all(np.any(s) for s in sums)


def test_horovod_need_not_be_installed(tmp_path):
    program = tmp_path / "accumulate.py"
    program.write_text(
        """
import keras
import numpy as np
from sharedlayers_dist import dist

optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(), backward_passes_per_step=2)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(optimizer, "mse")
data, callbacks = (np.ones((5, 3)), np.ones((5, 1))), dist.default_callbacks()
model.fit(*data, batch_size=1, verbose=0, callbacks=callbacks)
assert int(optimizer.iterations) == 2
"""
    )
    environment = without_packages(tmp_path / "packages", "horovod")
    environment["PYTHONPATH"] += f"{os.pathsep}{REPOSITORY}"
    run = subprocess.run(
        [sys.executable, "-S", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_training_goes_on_from_the_middle_of_an_accumulation_bit_by_bit(cut):
    whole = make_model(accumulating())
    fit(whole, Batches(SIZES))
    first, second = make_model(accumulating()), make_model(accumulating())
    batches = [Batches(SIZES)[i] for i in range(len(SIZES))]
    dist.prepare(first)
    for x, y in batches[:cut]:
        first.train_on_batch(x, y)
    accumulated = dist.accumulated_gradients(first.optimizer)
    assert bool(accumulated) == (cut != PASSES)
    second.optimizer.build(second.trainable_variables)
    for new, old in zip(
        [*second.variables, *second.optimizer.variables],
        [*first.variables, *first.optimizer.variables],
        strict=True,
    ):
        new.assign(old.value)
    dist.resume_accumulated_gradients(second.optimizer, accumulated)
    dist.prepare(second)
    for x, y in batches[cut:]:
        second.train_on_batch(x, y)
    for a, b in zip(values(second), values(whole), strict=True):
        assert a.tobytes() == b.tobytes()


def test_resuming_from_nothing_forgets():
    model = make_model(accumulating())
    dist.prepare(model)
    model.train_on_batch(*Batches(SIZES)[0])
    assert dist.accumulated_gradients(model.optimizer)
    dist.resume_accumulated_gradients(model.optimizer, [])
    assert dist.accumulated_gradients(model.optimizer) == []


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_scaled_loss_is_looked_at_when_it_is_applied(where):
    """An infinity in one pass skips the update that the pass belongs to, and no other."""
    scale, plain = keras.optimizers.LossScaleOptimizer, keras.optimizers.SGD(0.1)
    if where == "inside":
        optimizer = dist.DistributedOptimizer(scale(plain), backward_passes_per_step=2)
    else:
        optimizer = scale(dist.DistributedOptimizer(plain, backward_passes_per_step=2))
    variable = keras.Variable([1.0])
    optimizer.build([variable])
    for gradient in (1.0, np.inf, 1.0, 1.0):
        scaled = tf.constant([gradient * 2.0**15])
        with dist.local_batch(1):
            optimizer.apply([scaled], [variable])
    assert int(optimizer.iterations) == 1
    # The scale was halved, and of what was scaled by the one before there is twice as much.
    np.testing.assert_allclose(variable.numpy(), [1 - 0.1 * 2 * 2])


def test_one_pass_leaves_the_optimizer_as_it_is():
    optimizer = keras.optimizers.SGD()
    assert dist.DistributedOptimizer(optimizer) is optimizer
    assert type(optimizer) is keras.optimizers.SGD
    assert dist.accumulated_gradients(optimizer) == []


def test_an_optimizer_that_accumulates_is_saved_as_what_it_is(tmp_path):
    model = make_model(accumulating())
    fit(model, Batches(SIZES))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is keras.optimizers.Adam
    assert int(loaded.optimizer.iterations) == 1


def test_what_does_not_fit_is_refused():
    model, other = make_model(accumulating()), make_model(keras.optimizers.Adam())
    dist.prepare(model)
    for x, y in list(Batches(SIZES))[:2]:
        model.train_on_batch(x, y)
    accumulated = dist.accumulated_gradients(model.optimizer)
    with pytest.raises(ValueError, match="2 passes, for backward_passes_per_step=1"):
        dist.resume_accumulated_gradients(other.optimizer, accumulated)
    fewer = dist.DistributedOptimizer(keras.optimizers.Adam(), backward_passes_per_step=2)
    fewer.build(model.trainable_variables)
    with pytest.raises(ValueError, match=r"2 passes .* for 2 passes per update"):
        dist.resume_accumulated_gradients(fewer, accumulated)
    with pytest.raises(ValueError, match="of shapes"):
        dist.resume_accumulated_gradients(model.optimizer, accumulated[:-1])
    with (
        pytest.raises(ValueError, match=r"built with.*elsewhere"),
        dist.local_batch(1),
    ):
        model.optimizer.apply([tf.ones(1)], [keras.Variable([1.0], name="elsewhere")])
