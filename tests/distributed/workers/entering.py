"""Checks of ranks that bring different things along: no batch, another epoch, another metric."""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sharedlayers_dist import dist
from sharedlayers_dist.dist.gradients.keras_hooks import note_functions_of_batches
from sharedlayers_dist.world import World
from tests.distributed.workers.small import ONE, Rows, fit, make_model, raises

X = np.random.default_rng(1).normal(size=(3, 5)).astype("float32")
Y = np.asarray([[1], [0], [1]], "float32")


@contextmanager
def without_keras_warning() -> Iterator[None]:
    """Keras warns on a rank without rows, rightly, that its data are over at once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        yield


@without_keras_warning()
def fit_with_validation(world: World, rows: int, callbacks: list[Any]) -> dict[str, list[float]]:
    """Trains; the validation set has so many rows, dealt out by arrays as a user would."""
    x, y = (np.array_split(part[:rows], world.size)[world.rank] for part in (X, Y))
    model = make_model()
    optimizer = keras.optimizers.Adam(0.05)
    if world.size > 1:
        optimizer = dist.DistributedOptimizer(optimizer)
    model.compile(
        optimizer, "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")]
    )
    own = dist.default_callbacks() if world.size > 1 else []
    return model.fit(
        Rows(world),
        epochs=3,
        shuffle=False,
        verbose=0,
        validation_data=(x, y),
        callbacks=[*own, *callbacks],
    ).history


def case_a_rank_without_validation_rows_logs_what_all_log(world: World) -> None:
    for rows in (1, 3):
        logs = fit_with_validation(world, rows, [])
        expected = fit_with_validation(ONE, rows, [])
        assert logs.keys() == expected.keys(), (logs.keys(), expected.keys())
        for name, values in expected.items():
            np.testing.assert_allclose(logs[name], values, rtol=2e-5, err_msg=f"{rows}: {name}")


def case_early_stopping_stops_ranks_without_validation_rows(world: World) -> None:
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=0, baseline=0.0)
    logs = fit_with_validation(world, 1, [stopping])
    assert len(logs["loss"]) == 2  # Keras never stops after the first epoch.


def case_evaluating_without_rows_counts_nothing(world: World) -> None:
    model, _ = fit(world, epochs=1, metrics=lambda: ["accuracy"])
    expected, _ = fit(ONE, epochs=1, metrics=lambda: ["accuracy"])
    x, y = (np.array_split(part[:1], world.size)[world.rank] for part in (X, Y))
    with without_keras_warning():
        model.evaluate(x, y, verbose=0, callbacks=[dist.ExactMetrics()])
    got = dist.exact_metrics(model)
    wanted = expected.evaluate(X[:1], Y[:1], verbose=0, return_dict=True)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-5, err_msg=name)


@without_keras_warning()
def case_data_of_unknown_length_is_counted_once(world: World) -> None:
    """Keras asks for one batch more than there is, whose size is known: its own count is wrong."""
    import tensorflow as tf

    x, y = np.tile(X[:2], (6, 1)), np.tile(Y[:2], (6, 1))
    rows = tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda x, y: True)
    data = rows.batch(4, drop_remainder=True)
    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD(0.0)), "mse", metrics=["mae"])
    logs = model.fit(
        data,
        shuffle=False,
        validation_data=data,
        verbose=0,
        callbacks=dist.default_callbacks(),
    ).history
    errors = make_model().predict(X[:2], verbose=0) - Y[:2]
    expected = {"loss": np.mean(errors**2), "mae": np.mean(np.abs(errors))}
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], [value], rtol=2e-5, err_msg=name)
        np.testing.assert_allclose(logs[f"val_{name}"], [value], rtol=2e-5, err_msg=name)


def case_ranks_that_enter_at_different_epochs_are_refused(world: World) -> None:
    """As after a crash, where rank zero alone has kept a backup."""
    with tempfile.TemporaryDirectory() as folder:
        backup = keras.callbacks.BackupAndRestore(folder, delete_checkpoint=False)
        model = make_model()
        model.compile(dist.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
        own = [backup] if world.rank == 0 else []
        model.fit(Rows(world), epochs=2, verbose=0, callbacks=[*dist.default_callbacks(), *own])
        kept = sorted(path.name for path in Path(folder).rglob("*"))
        assert bool(kept) == (world.rank == 0)
        raises(
            ValueError,
            "enter fit.. alike. Received: first epoch: 2 on rank 0, 0 on rank 1.*BackupAndRestore",
            lambda: model.fit(
                Rows(world), epochs=4, verbose=0, callbacks=[*dist.default_callbacks(), *own]
            ),
        )
        assert sorted(path.name for path in Path(folder).rglob("*")) == kept


def case_ranks_with_other_steps_or_settings_are_refused(world: World) -> None:
    def enter(optimizer: keras.optimizers.Optimizer, sizes: Any, epochs: int = 1) -> None:
        model = make_model()
        model.compile(dist.DistributedOptimizer(optimizer), "mse")
        model.fit(
            Rows(world, sizes=sizes),
            epochs=epochs,
            verbose=0,
            callbacks=dist.default_callbacks(),
        )

    last = world.rank == world.size - 1
    sgd = keras.optimizers.SGD
    raises(ValueError, "steps of an epoch: 2 on", lambda: enter(sgd(), (8,) * (3 if last else 2)))
    raises(ValueError, "epochs: 1 on rank 0", lambda: enter(sgd(), (8,), 2 if last else 1))
    raises(
        ValueError,
        "optimizer: SGD.*clipnorm",
        lambda: enter(sgd(clipnorm=1.0 if last else None), (8,)),
    )
    enter(sgd(0.1 * (1 + world.rank)), (8, 8))  # Rank zero's rate is broadcast.


def case_ranks_with_another_loss_or_metric_are_refused(world: World) -> None:
    """Metrics of one shape would be added up as if they were one."""

    def enter(loss: Any, metrics: list[Any]) -> None:
        model = make_model()
        optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model.compile(optimizer, loss, metrics=metrics)
        model.fit(Rows(world), verbose=0, callbacks=dist.default_callbacks())

    last = world.rank == world.size - 1
    smooth = keras.losses.BinaryCrossentropy(label_smoothing=0.1 if last else 0.0)
    raises(ValueError, "loss: BinaryCrossentropy.*label_smoothing", lambda: enter(smooth, []))
    raises(
        ValueError,
        "metrics: accuracy on rank 0.*mae on rank",
        lambda: enter("mse", ["mae" if last else "accuracy"]),
    )
    if last:  # Keras numbers the names of one process on.
        keras.metrics.AUC()
    enter(keras.losses.MeanSquaredError(), [keras.metrics.AUC(), correct])


def precision_of_batch(y_true: Any, y_pred: Any) -> Any:
    accepted = keras.ops.cast(y_pred > 0.5, "float32")
    return keras.ops.sum(accepted * y_true) / (keras.ops.sum(accepted) + 1e-7)


def correct(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.cast((y_pred > 0.5) == (y_true > 0.5), "float32")[:, 0]


def case_a_metric_of_a_batch_is_refused(world: World) -> None:
    raises(
        ValueError,
        "metric='precision_of_batch', a function that gives one number",
        lambda: fit(world, metrics=lambda: [precision_of_batch]),
    )
    _, logs = fit(world, metrics=lambda: [correct])
    _, expected = fit(ONE, metrics=lambda: [correct])
    np.testing.assert_allclose(logs["correct"], expected["correct"], rtol=2e-5)


def case_a_metric_of_a_batch_is_refused_after_evaluating_alone(world: World) -> None:
    """Where nothing of this package was made before the metric was called, and where it was."""
    noting = keras.metrics.MeanMetricWrapper.update_state
    keras.metrics.MeanMetricWrapper.update_state = getattr(noting, "__wrapped__", noting)
    note_functions_of_batches.cache_clear()
    for distribute, said in (
        (lambda optimizer: optimizer, "called before"),
        (dist.DistributedOptimizer, "a function that gives one number"),
    ):
        model = make_model()
        model.compile(
            distribute(keras.optimizers.SGD()), "mse", metrics=["accuracy", precision_of_batch]
        )
        model.evaluate(Rows(world), verbose=0)
        found = functools.partial(dist.exact_metrics, model)
        raises(ValueError, f"metric='precision_of_batch', {said}", found)


def case_a_warm_up_that_goes_on_reaches_the_full_rate(world: World) -> None:
    def fit_on(model: keras.Model, first: int, **options: Any) -> float:
        model.fit(
            Rows(world),
            initial_epoch=first,
            epochs=first + 1,
            verbose=0,
            callbacks=[
                *dist.default_callbacks(),
                dist.LearningRateWarmup(epochs=2, **options),
            ],
        )
        return float(model.optimizer.learning_rate)

    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD(0.2)), "mse")
    assert fit_on(model, 0) < 0.2
    raises(ValueError, "must be told the full learning rate", lambda: fit_on(model, 1))
    np.testing.assert_allclose(fit_on(model, 1, initial_rate=0.2), 0.2, rtol=1e-6)


def case_a_second_init_is_heeded(world: World) -> None:
    assert dist.init() == world
    raises(RuntimeError, "A GPU was asked for", lambda: dist.init(require_gpu=True))
    raises(RuntimeError, "NCCL was asked for", lambda: dist.init(require_nccl=True))
    raises(
        ValueError,
        "stall_limit_seconds=7, after stall_limit_seconds=100",
        lambda: dist.init(stall_limit_seconds=7),
    )
    assert dist.init(stall_limit_seconds=100) == world
