"""Checks of what `DistributedOptimizer` makes of an optimizer, and of odd ways to use it."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sharedlayers_dist import dist
from sharedlayers_dist.world import World
from tests.distributed.workers.small import (
    ONE,
    Rows,
    all_but_the_last,
    assert_close,
    fit,
    make_model,
    raises,
)


@keras.saving.register_keras_serializable("tests")
class OwnOptimizer(keras.optimizers.SGD):
    """An optimizer of a user's own."""


def case_wrong_use_is_refused(world: World) -> None:
    wrap = dist.DistributedOptimizer
    optimizer = wrap(keras.optimizers.SGD())
    raises(ValueError, "distributed once", lambda: wrap(optimizer))
    outer = keras.optimizers.LossScaleOptimizer(optimizer)
    raises(ValueError, "distributed once", lambda: wrap(outer))
    refused: list[dict[str, Any]] = [
        {"op": "mean"},
        {"backward_passes_per_step": 0},
        {"gradient_predivide_factor": 0},
        {"gradient_predivide_factor": 2.0, "op": dist.Sum},
        {"groups": 0},
    ]
    for options in refused:
        raises(ValueError, "Received", partial(wrap, keras.optimizers.SGD(), **options))
    raises(ValueError, "must be a Keras 3 optimizer", lambda: wrap("sgd"))
    model = make_model()
    model.compile(keras.optimizers.SGD(), "mse")
    raises(ValueError, "compiled with a DistributedOptimizer", lambda: dist.prepare(model))
    raises(
        ValueError if world.size == 3 else RuntimeError,
        "Adasum needs",
        lambda: wrap(keras.optimizers.SGD(), op=dist.Adasum),
    )


def case_it_stays_the_plain_optimizer(world: World) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    for make in (
        lambda: keras.optimizers.AdamW(schedule, clipnorm=1.0),
        lambda: OwnOptimizer(0.1),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
    ):
        plain, optimizer = make(), dist.DistributedOptimizer(make())
        assert isinstance(optimizer, type(plain))
        got, expected = map(keras.optimizers.serialize, (optimizer, plain))
        got["config"]["name"] = expected["config"]["name"]
        if "inner_optimizer" in expected["config"]:
            inner = expected["config"]["inner_optimizer"]["config"]
            got["config"]["inner_optimizer"]["config"]["name"] = inner["name"]
        assert got == expected, (got, expected)


def case_a_built_optimizer_keeps_its_state(world: World) -> None:
    model, _ = fit(ONE, epochs=1)
    expected, _ = fit(ONE, epochs=1)
    model.optimizer = dist.DistributedOptimizer(model.optimizer)
    model.fit(Rows(world), shuffle=False, verbose=0, callbacks=dist.default_callbacks())
    expected.fit(Rows(ONE), shuffle=False, verbose=0)
    assert_close(model, expected)


def case_optimizer_of_several_optimizers(world: World) -> None:
    def build(world: World) -> keras.Model:
        model = make_model()
        choices = keras.optimizers.Adam(0.05), keras.optimizers.SGD(0.1)
        optimizer = keras.optimizers.MultiOptimizer(lambda v: choices["bias" in v.path])
        if world.size > 1:
            optimizer = dist.DistributedOptimizer(optimizer)
        model.compile(optimizer, "mse")
        callbacks = dist.default_callbacks() if world.size > 1 else None
        model.fit(Rows(world), shuffle=False, verbose=0, callbacks=callbacks)
        return model

    if hasattr(keras.optimizers, "MultiOptimizer"):
        for a, b in zip(build(world).get_weights(), build(ONE).get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=5e-5, atol=5e-6)


def case_saved_model(world: World) -> None:
    """Leaves a model where the test expects it, to be opened by plain Keras."""
    model, _ = fit(world, epochs=1, jit_compile=True, data=lambda w: Rows(w, sizes=(6, 6)))
    if world.is_rank_zero:
        folder = Path(os.environ.get("SAVED_MODEL", tempfile.mkdtemp()))
        model.save(folder / "model.keras")
        np.savez(folder / "state.npz", *[v.numpy() for v in model.optimizer.variables])


def case_a_loaded_model_goes_on(world: World) -> None:
    model, _ = fit(world, epochs=1)
    expected, _ = fit(ONE, epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras.saving.load_model(f"{folder}/model.keras")
    loaded.optimizer = dist.DistributedOptimizer(loaded.optimizer)
    loaded.fit(Rows(world), shuffle=False, verbose=0, callbacks=dist.default_callbacks())
    expected.fit(Rows(ONE), shuffle=False, verbose=0)
    assert_close(loaded, expected)


def case_a_process_set_reduces_among_its_ranks(world: World) -> None:
    chosen = all_but_the_last(world.size)
    variable = keras.Variable([0.0, 0.0])
    optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(1.0), process_set=chosen)
    optimizer.build([variable])
    with dist.local_batch(world.rank + 1):
        optimizer.apply([tf.constant([-1.0 - world.rank, 0.0])], [variable])
    members = range(world.size - 1)
    mean = sum((r + 1) ** 2 for r in members) / sum(r + 1 for r in members)
    expected = mean if world.rank in members else 1.0 + world.rank
    np.testing.assert_allclose(variable.numpy()[0], expected, rtol=1e-6)


def case_a_constant_gradient_is_reduced_in_every_step(world: World) -> None:
    """TensorFlow would reduce a constant once, while it optimizes the graph, and keep the result.

    Horovod's operations are not marked as stateful. On rank zero alone that ends in a deadlock.
    """
    variable, other = keras.Variable([2.0]), tf.Variable([1.0])
    optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(0.5), op=dist.Sum)
    optimizer.build([variable])

    @tf.function
    def step() -> None:
        gradient = tf.ones(1) if world.rank == 0 else other.read_value()
        optimizer.apply([gradient], [variable])

    for _ in range(3):
        step()
    np.testing.assert_allclose(variable.numpy(), [2.0 - 3 * 0.5 * world.size])


def case_ranks_may_trace_at_different_times(world: World) -> None:
    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    dist.prepare(model)
    for step, rows in enumerate((4, 5, 6, 4)):
        if step == world.rank:
            time.sleep(1.0)
        rows += world.rank * (step % 2)
        model.train_on_batch(np.ones((rows, 5), "float32"), np.ones((rows, 1), "float32"))
    dist.check_replicas(model)


def case_two_optimizers_in_one_step(world: World) -> None:
    first, second = keras.Variable(1.0), keras.Variable(1.0)
    optimizers = [dist.DistributedOptimizer(keras.optimizers.SGD(1.0)) for _ in range(2)]
    for optimizer, variable in zip(optimizers, (first, second), strict=True):
        optimizer.build([variable])

    @tf.function
    def step(x: tf.Tensor) -> None:
        with dist.local_batch(1):
            optimizers[1 - world.rank % 2].apply([x], [(second, first)[world.rank % 2]])
            optimizers[world.rank % 2].apply([2 * x], [(first, second)[world.rank % 2]])

    # The order in which ranks write their operations down does not matter; names do.
    step(tf.constant(float(world.rank)))
    mean = (world.size - 1) / 2
    assert first.numpy() != 1.0 or mean == 0, first.numpy()
    values = dist.allgather_object([first.numpy(), second.numpy()])
    assert all(v == values[0] for v in values), values


OPTIONS = st.fixed_dictionaries(
    {
        "op": st.sampled_from([dist.Average, dist.Sum]),
        "compression": st.sampled_from(["none", "fp16"]),
        "backward_passes_per_step": st.integers(1, 3),
        "average_aggregated_gradients": st.booleans(),
        "sparse_as_dense": st.booleans(),
        "groups": st.none() | st.integers(1, 4) | st.just("lists"),
        "gradient_predivide_factor": st.sampled_from([1.0, 2.0]),
    }
)
MODELS = st.fixed_dictionaries(
    {
        "is_sparse": st.booleans(),
        "has_none": st.booleans(),
        "is_mixed": st.booleans(),
        "is_loss_scaled": st.sampled_from(["", "inside", "outside"]),
        "is_weighted": st.booleans(),
        "rows": st.lists(st.integers(0, 5), min_size=6, max_size=6),
        "bad_step": st.integers(-1, 3),
    }
)


def case_no_options_make_ranks_wait_for_each_other(world: World) -> None:
    """All ranks draw the same options, and must come through four steps with equal weights."""
    import horovod.tensorflow as hvd

    @settings(
        max_examples=int(os.environ.get("FUZZ_EXAMPLES", "8")),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(OPTIONS, MODELS)
    def run(options: dict[str, Any], model: dict[str, Any]) -> None:
        options = dict(options, compression=getattr(hvd.Compression, options["compression"]))
        _train_four_steps(world, options, model)

    run()


def _train_four_steps(world: World, options: dict[str, Any], model: dict[str, Any]) -> None:
    dtype = "float16" if model["is_mixed"] else "float32"
    table = keras.Variable(np.ones((4, 2)), dtype=dtype)
    bias = keras.Variable(np.ones(2), dtype="float32")
    unused = keras.Variable(np.ones(3), dtype="float32")
    variables = [table, bias, *([unused] if model["has_none"] else [])]
    if options["groups"] == "lists":
        options["groups"] = [[bias], [table, unused]]
    if options["op"] == dist.Sum:
        del options["gradient_predivide_factor"]
    plain = keras.optimizers.SGD(0.1, momentum=0.9)
    scaled = keras.optimizers.LossScaleOptimizer
    if model["is_loss_scaled"] == "inside":
        optimizer = dist.DistributedOptimizer(scaled(plain), **options)
    elif model["is_loss_scaled"] == "outside":
        optimizer = scaled(dist.DistributedOptimizer(plain, **options))
    else:
        optimizer = dist.DistributedOptimizer(plain, **options)
    optimizer.build(variables)

    @tf.function(reduce_retracing=True)
    def step(ids: tf.Tensor, factor: tf.Tensor, samples: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            if model["is_sparse"]:
                rows = tf.gather(table.value, ids)
            else:
                rows = tf.one_hot(ids, 4, dtype=dtype) @ table.value
            loss = tf.reduce_mean(tf.square(tf.cast(rows, tf.float32) + bias.value)) * factor
            loss = optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, [v.value for v in variables])
        if model["is_weighted"]:
            with dist.local_batch(samples):
                optimizer.apply(gradients, variables)
        else:
            optimizer.apply(gradients, variables)

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(4):
            rows = model["rows"][(number + world.rank) % 6]
            is_bad = number == model["bad_step"] and world.rank == world.size - 1
            step(
                tf.constant(np.arange(max(rows, 1)) % 4),
                tf.constant(float("inf") if is_bad else 1.0),
                tf.constant(rows),
            )
    values = dist.allgather_object([v.numpy() for v in [*variables, *optimizer.variables]])
    for other in values[1:]:
        for a, b in zip(other, values[0], strict=True):
            np.testing.assert_array_equal(a, b)
