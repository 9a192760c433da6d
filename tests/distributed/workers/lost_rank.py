"""Trains until it is disturbed: each rank prints a line per step."""

from __future__ import annotations

import os
import signal
import sys

import keras
import numpy as np

from sharedlayers_dist import dist


class Disturb(keras.callbacks.Callback):
    """Makes rank one fail in its third step, in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        print(f"step {batch}", flush=True)
        if batch != 2 or dist.rank() != 1:
            return
        if self._how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == "hang":
            signal.pause()
        if self._how == "raise":
            raise ValueError("rank one has had enough")


def main() -> None:
    dist.init()
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    data = np.ones((400, 5)), np.ones((400, 1))
    callbacks = [dist.BroadcastInitialState(), Disturb(sys.argv[1])]
    model.fit(*data, batch_size=4, verbose=0, callbacks=callbacks)


if __name__ == "__main__":
    main()
