"""One rank of a training run through the command line, disturbed: `... OPTIONS RANK HOW STEP`.

On rank RANK, in global step STEP: HOW is `callback` (raises), `exit`, `kill`, `sigterm`, `sigint`
or `twice` (SIGINT in that step and in the next); `step` makes an operation of the step itself fail,
`storage` the writing of that step's checkpoint; `validation` sends SIGTERM in that step of a
validation; `none` does nothing. OPTIONS are those of TrainConfig, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import fields
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import TrainConfig, cli, training
from sharedlayers_dist.storage import folder as storage
from sharedlayers_dist.training import epochs
from tests.distributed.workers.patient import Patient


class Disturb(keras.callbacks.Callback):
    def __init__(self, how: str, step: int) -> None:
        super().__init__()
        self._how = how
        self._step = step
        self._num_steps = 0

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._num_steps += 1
        if self._how == "twice" and self._num_steps == self._step + 1:
            os.kill(os.getpid(), signal.SIGINT)
        if self._num_steps != self._step:
            return
        match self._how:
            case "callback":
                np.zeros(2) + np.zeros(3)  # NumPy's own ValueError, and no mistake of a user.
            case "exit":
                sys.exit("this callback leaves")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "sigterm":
                os.kill(os.getpid(), signal.SIGTERM)
            case "sigint":
                os.kill(os.getpid(), signal.SIGINT)
            case "twice":
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    def on_test_batch_end(self, batch: int, logs: object = None) -> None:
        if self._how == "validation" and batch + 1 == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


def fail_to_write(step: int) -> None:
    """Puts a folder's name in the way of a checkpoint that is to be written."""
    publish = storage.LocalFolder.publish

    def publish_or_fail(self, name, files):
        if name.endswith(f"{step:08d}"):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).with_name(f".step-{step:08d}.partial").write_text("in the way")
        publish(self, name, files)

    storage.LocalFolder.publish = publish_or_fail  # type: ignore[method-assign]


def fail_in_step(step: int) -> None:
    """Puts an operation that fails behind the training's batches."""
    as_tf_dataset = epochs.as_tf_dataset

    def check(number, batch):
        with tf.control_dependencies([tf.debugging.assert_less(number + 1, np.int64(step))]):
            return tf.nest.map_structure(tf.identity, batch)

    epochs.as_tf_dataset = lambda *args, **options: (
        as_tf_dataset(*args, **options).enumerate().map(check)
    )


def main() -> None:
    options, rank, how, step = sys.argv[1:]
    config = json.loads(options)
    callbacks: list[keras.callbacks.Callback] = [Patient()]
    if int(os.environ.get("HOROVOD_RANK", "0")) == int(rank):
        if how == "storage":
            fail_to_write(int(step))
        elif how == "step":
            fail_in_step(int(step))
        else:
            callbacks.append(Disturb(how, int(step)))
    run = training.train
    training.train = partial(run, callbacks=callbacks)
    arguments = ["train"]
    for field in fields(TrainConfig):
        if config.get(field.name) is True:
            arguments.append(f"--{field.name.replace('_', '-')}")
        elif field.name in config:
            arguments += [f"--{field.name.replace('_', '-')}", str(config[field.name])]
    cli.main(arguments)


if __name__ == "__main__":
    main()
