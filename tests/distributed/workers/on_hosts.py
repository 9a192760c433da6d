"""The driver of a run on a cluster of hosts: `python -m tests.distributed.workers.on_hosts
OPTIONS PAUSES FOLDER [BYTES]`.

OPTIONS are those of TrainConfig, as JSON. PAUSES, as JSON, has a step for each time that the
workers are to be started again: there they wait for it, after they have said in FOLDER where they
are. What is done to them meanwhile is the test's; if Ray gives notice that a node of theirs is
taken away, they train on. Rank zero notes in FOLDER/steps what each group trains. The driver keeps
so many BYTES in Ray's object store.
"""

import json
import os
import socket
import sys
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import ray
from ray.train.v2._internal.execution.context import get_train_context

import sharedlayers_dist.ray
from sharedlayers_dist import TrainConfig

SECONDS_TO_WAIT = 150


class Pauses(keras.callbacks.Callback):
    """Notes each step, and waits at the one at which this group of workers is to end."""

    def __init__(self, pauses: list[int], folder: str) -> None:
        super().__init__()
        self._pauses = pauses
        self._folder = Path(folder)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        from sharedlayers_dist import dist

        group, step = sharedlayers_dist.ray.num_restarts(), int(self.model.optimizer.iterations)
        if dist.rank() == 0:
            with (self._folder / "steps").open("a") as steps:
                steps.write(f"{json.dumps([group, step])}\n")
        if group >= len(self._pauses) or step < self._pauses[group] or has_notice():
            return
        place = {"host": socket.gethostname(), "pid": os.getpid(), "size": dist.size()}
        note = self._folder / f"group-{group}-rank-{dist.rank()}"
        note.with_suffix(".new").write_text(json.dumps(place))
        note.with_suffix(".new").rename(note)
        deadline = time.monotonic() + SECONDS_TO_WAIT
        while not has_notice():
            if time.monotonic() >= deadline:
                raise TimeoutError(f"Nobody has ended the group {group}.")
            time.sleep(0.2)


def has_notice() -> bool:
    """Whether Ray has told this worker that a node is taken away."""
    return get_train_context().preemption_context.preemption_info is not None


def make_callbacks(pauses: list[int], folder: str) -> list[keras.callbacks.Callback]:
    return [Pauses(pauses, folder)]


def main() -> None:
    options, pauses, folder, *num_bytes = sys.argv[1:]
    ray.init(log_to_driver=False)
    kept = [ray.put(np.zeros(1 << 20, np.uint8)) for _ in range(int(*num_bytes) >> 20)]
    result = sharedlayers_dist.ray.train(
        TrainConfig(**json.loads(options)), partial(make_callbacks, json.loads(pauses), folder)
    )
    print(f"{result.steps} steps, with {len(kept)} MiB in the object store")


if __name__ == "__main__":
    main()
