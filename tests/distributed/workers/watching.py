"""Checks of the callbacks and of what they exchange."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import dist
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.distributed.workers.small import ONE, Rows, assert_equals_one, fit, make_model, raises


def case_collectives(world: World) -> None:
    gathered = dist.allgather_object({"rank": world.rank})
    assert gathered == [{"rank": r} for r in range(world.size)]
    assert dist.broadcast_object(f"from {world.rank}", root=1) == "from 1"
    total = sum(range(world.size))
    sums = dist.allreduce_sum([np.float32(world.rank), np.full((2, 1), world.rank), np.zeros(0)])
    assert [s.tolist() for s in sums] == [total, [[total]] * 2, []]
    kinds = ("float32", "bfloat16", "uint32", "bool", "int64")
    arrays = [np.asarray([world.rank, 1, 0], dtype=tf.as_dtype(k).as_numpy_dtype) for k in kinds]
    for got, kind in zip(dist.broadcast_arrays(arrays, root=1), kinds, strict=True):
        assert got.astype(int).tolist() == [1, 1, 0]
        assert got.dtype == tf.as_dtype(kind).as_numpy_dtype
    assert dist.broadcast_arrays([]) == []
    dist.barrier()


def case_an_error_of_one_rank_is_raised_on_all(world: World) -> None:
    dist.raise_on_all_ranks(None)
    own = UserError("the column a is missing") if world.rank == 1 else None
    raises(ValueError, "Rank 1: the column a is missing", lambda: dist.raise_on_all_ranks(own))
    other = OSError("disk full") if world.rank == 0 else None
    raises(RuntimeError, "Rank 0: OSError: disk full", lambda: dist.raise_on_all_ranks(other))


def case_initial_state_is_broadcast(world: World) -> None:
    def build() -> keras.Model:
        keras.utils.set_random_seed(world.rank)
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(1),
            ]
        )
        optimizer = keras.optimizers.Adam(0.1 * (world.rank + 1))
        model.compile(dist.DistributedOptimizer(optimizer), "mse", metrics=["mae"])
        return model

    model = build()
    if world.rank == 0:  # As if rank zero alone had read a checkpoint and evaluated it.
        model.optimizer.build(model.trainable_variables)
        for variable in [*model.variables, *model.optimizer.variables]:
            variable.assign(tf.cast(tf.fill(variable.shape, 3), variable.dtype))
        model.evaluate(np.ones((2, 5)), np.ones((2, 1)), verbose=0)
    callback = dist.BroadcastInitialState()
    callback.set_model(model)
    callback.on_train_begin()
    variables = [*model.variables, *model.optimizer.variables]
    kinds = {v.path.split("/")[-1] for v in variables}
    assert {"iteration", "learning_rate", "seed_generator_state", "moving_mean"} <= kinds, kinds
    for variable in variables:
        if variable.path.endswith("seed_generator_state"):  # The seed is each rank's own.
            seed, counter = variable.numpy().tolist()
            seeds = dist.allgather_object(seed)
            assert (seeds[0], counter) == (3, 3)
            assert len(set(seeds)) == world.size, seeds
        else:
            assert (variable.numpy() == 3).all(), variable.path
    # Later state is each rank's own: the callback acts once.
    model.trainable_variables[0].assign_add(tf.fill((5,), float(world.rank)))
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(0)
    assert (model.trainable_variables[0].numpy() == 3 + world.rank).all()


def case_different_models_are_refused(world: World) -> None:
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(1 + world.rank, name="own")(inputs))
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    raises(RuntimeError, "same model.*own/kernel", lambda: dist.broadcast_state(model))


def case_guard_finds_a_weight_that_differs(world: World) -> None:
    class Break(keras.callbacks.Callback):
        def __init__(self, choose: Any) -> None:
            super().__init__()
            self._choose = choose
            self.steps = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps += 1
            if self.steps == 3 and world.rank == world.size - 1:
                variable = self._choose(self.model)
                variable.assign(
                    variable + tf.cast(tf.one_hot(0, variable.shape[0]), variable.dtype) * 1e-6
                )

    last = world.size - 1
    others = "ranks 0, 1" if world.size == 3 else "rank 0"
    pattern = (
        f"differs is [^ ]*{{}}.*0x[0-9a-f]{{{{8}}}} on {others}; 0x[0-9a-f]{{{{8}}}} on rank {last}"
    )
    for choose, path in (
        (lambda model: model.layers[-1].bias, "dense.*/bias"),
        (lambda model: model.optimizer.variables[-1], "adam.*velocity"),
    ):
        model = make_model()
        model.compile(dist.DistributedOptimizer(keras.optimizers.Adam()), "mse")
        breaker = Break(choose)
        callbacks = [dist.BroadcastInitialState(), breaker, dist.ReplicaGuard(every=3)]
        raises(
            RuntimeError,
            pattern.format(path),
            functools.partial(model.fit, Rows(world), verbose=0, callbacks=callbacks),
        )
        assert breaker.steps == 3, breaker.steps
    raises(ValueError, "`every`", lambda: dist.ReplicaGuard(every=0))


def case_guard_ignores_what_may_differ(world: World) -> None:
    model = make_model()
    model.add(keras.layers.BatchNormalization())
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    model.fit(
        Rows(world), verbose=0, callbacks=[dist.BroadcastInitialState(), dist.ReplicaGuard(every=1)]
    )
    moving = dist.allgather_object(model.layers[-1].moving_mean.numpy())
    assert (moving[0] != moving[1]).any()


class Late(keras.callbacks.Callback):
    """Makes one rank late for each step, and notes what each step has waited."""

    SECONDS = 0.5

    def __init__(self, is_late: bool) -> None:
        super().__init__()
        self._is_late = is_late
        self.waited: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._before = dist.collective_seconds()
        if self._is_late:
            time.sleep(self.SECONDS)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.waited.append(dist.collective_seconds() - self._before)


def case_waiting_for_a_late_rank_is_counted(world: World) -> None:
    """In steps, whole, in parts, and accumulated (every second one reduces); and outside.

    A rank's own computation, in which it may be late, does not count.
    """

    def take_time(rows: Any) -> Any:
        time.sleep(Late.SECONDS if world.rank == 0 else 0)
        return rows

    def loss(y: Any, y_pred: Any) -> tf.Tensor:
        y = tf.ensure_shape(tf.numpy_function(take_time, [y], tf.float32), (None, 1))
        return keras.losses.mean_squared_error(y, y_pred)

    ways: list[tuple[int, dict[str, Any], dict[str, Any]]] = [
        (0, {}, {"loss": loss}),
        (1, {"groups": 2}, {"jit_compile": True}),
        (1, {"backward_passes_per_step": 2}, {"run_eagerly": True}),
    ]
    for late, options, compiled in ways:
        model = make_model()
        optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(), **options)
        model.compile(optimizer, **{"loss": "mse"} | compiled)
        data, callbacks = Rows(world, sizes=(6,) * 4), [dist.BroadcastInitialState()]
        model.fit(data, verbose=0, callbacks=callbacks)
        note = Late(world.rank == late and "loss" not in compiled)
        model.fit(data, verbose=0, callbacks=[*callbacks, note])
        waited = [seconds for seconds in note.waited if seconds]
        assert len(waited) == 4 // options.get("backward_passes_per_step", 1)
        assert_late(world, late, waited)
    for exchange in (
        dist.barrier,
        lambda: dist.broadcast_object(1),
        lambda: dist.allgather_object(1),
        lambda: dist.broadcast_arrays([np.ones(3)]),
        lambda: dist.allgather_array(np.ones(3)),
    ):
        waited = []
        for _ in range(3):
            dist.barrier()
            note = Late(world.rank == 1)
            note.on_train_batch_begin(0)
            exchange()
            note.on_train_batch_end(0)
            waited += note.waited
        assert_late(world, 1, waited)


def assert_late(world: World, late: int, own: list[float]) -> None:
    """By medians: another rank may be held up now and then by what else the machine does."""
    waited = dist.allgather_object(float(np.median(own)))
    assert waited[late] < Late.SECONDS / 3, waited
    assert min(w for rank, w in enumerate(waited) if rank != late) > Late.SECONDS / 2, waited


class Scripted(keras.callbacks.Callback):
    """Puts a rank's own values into the logs."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self._values = values

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["loss"] = self._values[epoch]


def case_rank_zero_decides_when_to_stop(world: World) -> None:
    values = [5.0, 4, 3, 4, 5, 6, 7, 8] if world.rank == 0 else [8.0, 7, 6, 5, 4, 3, 2, 1]
    stop = dist.AgreedEarlyStopping("loss", patience=2, restore_best_weights=True)
    _, logs = fit(world, epochs=8, callbacks=[Scripted(values), stop])
    assert len(logs["loss"]) == 5, logs
    assert stop.best_epoch == 2, stop.best_epoch
    missing = dist.AgreedEarlyStopping("val_loss")
    raises(UserWarning, "val_loss.*not available", lambda: fit(world, callbacks=[missing]))


def case_rank_zero_decides_on_the_learning_rate(world: World) -> None:
    values = [5.0, 5, 5, 5] if world.rank == 0 else [4.0, 3, 2, 1]
    plateau = dist.AgreedReduceLROnPlateau("loss", factor=0.5, patience=1, min_lr=0.001)
    model, _ = fit(
        world,
        epochs=4,
        callbacks=[Scripted(values), plateau],
        optimizer=lambda: keras.optimizers.SGD(0.08),
    )
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.01, rtol=1e-6)
    dist.check_replicas(model)


def case_learning_rate_warms_up(world: World) -> None:
    rates: list[float] = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            rates.append(float(self.model.optimizer.learning_rate))

    optimizer = dist.scale_learning_rate(keras.optimizers.SGD(0.1))
    full = 0.1 * world.size
    np.testing.assert_allclose(float(optimizer.learning_rate), full, rtol=1e-6)
    raises(ValueError, "scaled once", lambda: dist.scale_learning_rate(optimizer))
    fit(
        world,
        optimizer=lambda: optimizer,
        epochs=3,
        callbacks=[dist.LearningRateWarmup(epochs=2), Note()],
    )
    steps = len(Rows(world))
    expected = [
        full * (1 + (k + 1) / (2 * steps) * (world.size - 1)) / world.size for k in range(2 * steps)
    ] + [full] * steps
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    raises(
        ValueError,
        "before the first step.*15 steps",
        lambda: dist.scale_learning_rate(_without_mark(optimizer)),
    )


def case_keras_sets_the_learning_rate(world: World) -> None:
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (epoch + 1))
    assert_equals_one(world, callbacks=[schedule])


def case_rank_zero_alone_writes_checkpoints(world: World) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/best.keras"
        save = keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
        model, _ = fit(world, callbacks=[save] if world.is_rank_zero else [])
        if world.is_rank_zero:
            for a, b in zip(keras.saving.load_model(path).weights, model.weights, strict=True):
                np.testing.assert_array_equal(a.numpy(), b.numpy())
        else:
            assert not Path(path).exists()


def _without_mark(optimizer: Any) -> Any:
    """As the optimizer would be after it was saved and loaded."""
    object.__delattr__(optimizer, "_scaled_by")
    return optimizer


def case_metrics_equal_those_of_one_process(world: World) -> None:
    def metrics() -> list[Any]:
        return [
            "accuracy",
            "mse",
            keras.metrics.AUC(name="auc"),
            keras.metrics.Precision(name="precision"),
            keras.metrics.RecallAtPrecision(0.8, name="recall_at"),
            keras.metrics.F1Score(name="f1", threshold=0.5),
            keras.metrics.RootMeanSquaredError(name="rmse"),
            keras.metrics.R2Score(name="r2"),
            keras.metrics.BinaryIoU(name="iou"),
            keras.metrics.FalseNegatives(name="false_negatives"),
            keras.metrics.MeanMetricWrapper(keras.losses.mean_absolute_error, name="own"),
        ]

    def train(world: World) -> tuple[Any, Any, Any]:
        model = make_model()
        optimizer = keras.optimizers.SGD(0.0)
        if world.size > 1:
            optimizer = dist.DistributedOptimizer(optimizer)
        model.compile(
            optimizer,
            "binary_crossentropy",
            metrics=metrics(),
            weighted_metrics=[keras.metrics.AUC(name="weighted_auc")],
        )
        callbacks = [dist.BroadcastInitialState(), dist.ExactMetrics()] if world.size > 1 else []
        seen: list[dict[str, Any]] = []
        evaluated: list[dict[str, Any]] = []

        class Later(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                seen.append(dict(logs))

        class AfterTest(keras.callbacks.Callback):
            def on_test_end(self, logs: Any = None) -> None:
                evaluated.append(dict(logs))

        history = model.fit(
            Rows(world),
            epochs=2,
            shuffle=False,
            verbose=0,
            validation_data=Rows(world, sizes=(9, 4)),
            validation_freq=2,
            callbacks=[*callbacks, Later()],
        ).history
        data = Rows(world, sizes=(8, 3))
        model.evaluate(data, verbose=0, callbacks=[*callbacks[1:], AfterTest()])
        local = [v.numpy() for v in model.metrics_variables]
        evaluated.append(dist.exact_metrics(model) if world.size > 1 else evaluated[0])
        for a, b in zip(model.metrics_variables, local, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
        return history, seen, evaluated

    got, expected = train(world), train(ONE)
    assert [len(logs) for logs in expected[1]] == [13, 26], expected[1]
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def case_validation_on_some_ranks_alone_is_refused(world: World) -> None:
    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    raises(
        ValueError,
        f"All ranks must validate.*on rank 0 of {world.size} ranks",
        lambda: model.fit(
            Rows(world),
            verbose=0,
            validation_data=Rows(world) if world.rank == 0 else None,
            callbacks=dist.default_callbacks(),
        ),
    )


def case_metric_that_cannot_be_added_says_so(world: World) -> None:
    class Largest(keras.metrics.Metric):
        def __init__(self, name: str = "largest", dtype: Any = None) -> None:
            super().__init__(dtype=dtype, name=name)
            self.value = self.add_variable((), "zeros")

        def update_state(self, y: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.value.assign(tf.maximum(self.value, tf.reduce_max(y_pred)))

        def result(self) -> Any:
            return self.value

    class Added(Largest):
        additive = True

    raises(ValueError, "Largest.*additive = True", lambda: fit(world, metrics=lambda: [Largest()]))
    fit(world, metrics=lambda: [Added()], epochs=1)


def case_own_logs_are_left_alone(world: World) -> None:
    class Own(keras.Model):
        def train_step(self, data: Any) -> Any:
            return {"mine": tf.constant(float(world.rank))}

    inputs = keras.Input((5,))
    build = functools.partial(Own, inputs, keras.layers.Dense(1)(inputs))
    _, logs = fit(world, build=build, epochs=1)
    assert logs == {"mine": [float(world.rank)]}, logs
