"""Which steps have a checkpoint must not hang on how fast this machine's disk is."""

from __future__ import annotations

import threading

import keras


class Patient(keras.callbacks.Callback):
    """Waits before each step until the checkpoint before it is written, so that none is put off."""

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        for thread in threading.enumerate():
            if thread.name == "sharedlayers-checkpoint":
                thread.join()
