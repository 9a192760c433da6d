"""Trains until it is disturbed: each rank prints a line per step.

Command line: what happens. `slow` disturbs nobody: two steps take eleven seconds everywhere.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import dist


class Disturb(keras.callbacks.Callback):
    """Makes rank one fail or hang: before its first step, after its third, or after all steps."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how if dist.rank() == 1 else ""

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        if self._how == "hang before the first step" and batch == 0:
            signal.pause()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        print(f"step {batch}", flush=True)
        if batch != 2:
            return
        if self._how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how in ("hang", "hang before normalization"):
            signal.pause()
        if self._how == "raise":
            raise ValueError("rank one has had enough")

    def on_test_begin(self, logs: object = None) -> None:
        if self._how == "hang in validation":
            signal.pause()


def fit(how: str) -> None:
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    if how == "hang before normalization":
        model.add(dist.SyncBatchNormalization())
    num_rows = 16 if how == "slow" else 400
    data = (np.ones((num_rows, 5)), np.ones((num_rows, 1)))
    model.compile(
        dist.DistributedOptimizer(keras.optimizers.SGD()),
        slow_loss if how == "slow" else "mse",
        steps_per_execution=2 if how == "slow" else 1,
    )
    callbacks = [dist.BroadcastInitialState(), dist.ExactMetrics(), Disturb(how)]
    validation = data if how == "hang in validation" else None
    model.fit(*data, batch_size=4, verbose=0, callbacks=callbacks, validation_data=validation)


def slow_loss(y: Any, y_pred: Any) -> tf.Tensor:
    def take_time(rows: Any) -> Any:
        time.sleep(5.5)
        return rows

    y = tf.ensure_shape(tf.numpy_function(take_time, [y], tf.float32), (None, 1))
    return keras.losses.mean_squared_error(y, y_pred)


def loop() -> None:
    """A training loop of one's own, in which rank one hangs after its third step."""
    variable = keras.Variable([1.0])
    optimizer = dist.DistributedOptimizer(keras.optimizers.SGD())
    optimizer.build([variable])

    @tf.function
    def step() -> None:
        with dist.local_batch(1):
            optimizer.apply([variable.value * 0.1], [variable])

    for number in range(100):
        step()
        print(f"step {number}", flush=True)
        if number == 2 and dist.rank() == 1:
            signal.pause()


def main() -> None:
    how = sys.argv[1]
    dist.init()
    if how == "hang in a loop":
        loop()
    else:
        fit(how)


if __name__ == "__main__":
    main()
