"""Trainings that are killed and resumed: `python -m ...workers.killed OPTIONS KILLS`.

KILLS is a JSON list of `[after, seconds]`: each kills one process, so many seconds after it reached
a step of its own (a number), began to write a checkpoint (`save`), or has written a checkpoint's
file (its name); with 0 seconds right there, however busy the machine is. After the last one the
training may end. Prints a JSON line for each process: its exit code and whether it was at a save.

TensorFlow is loaded once; each process is forked before TensorFlow makes any thread.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time

import keras

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.storage import disk
from sharedlayers_dist.training import fit as _fit  # noqa: F401  (loads all that a run needs)


class KillMe:
    """Kills this process with SIGKILL: at once, or later from a thread, whatever else it does."""

    def __init__(self, after: int | str, seconds: float) -> None:
        self.after = after
        self._seconds = seconds
        self._is_armed = True

    def reached(self, place: int | str) -> None:
        if self._is_armed and place == self.after:
            self._is_armed = False
            if self._seconds == 0:
                self._kill()
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        time.sleep(self._seconds)
        os.kill(os.getpid(), signal.SIGKILL)


class Steps(keras.callbacks.Callback):
    """Counts the steps of this process."""

    def __init__(self, kill: KillMe) -> None:
        super().__init__()
        self._kill = kill
        self._num_steps = 0

    def on_train_begin(self, logs: object = None) -> None:
        self._kill.reached(0)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._num_steps += 1
        self._kill.reached(self._num_steps)


def run(config: TrainConfig, kill: KillMe | None, at_save: int) -> None:
    callbacks = []
    if kill is not None:
        callbacks = [Steps(kill)]
        publish = disk.LocalFolder.publish

        def watched_publish(self, name, files):
            os.pwrite(at_save, b"1", 0)
            kill.reached("save")
            publish(self, name, files)
            os.pwrite(at_save, b"0", 0)

        write = disk._write_durably

        def watched_write(path, pieces):
            write(path, pieces)
            kill.reached(path.name)

        disk.LocalFolder.publish = watched_publish  # type: ignore[method-assign]
        disk._write_durably = watched_write
    train(config, callbacks)


def main() -> None:
    options, kills = map(json.loads, sys.argv[1:])
    for kill in [*kills, None]:
        config = TrainConfig(**options | {"resume": True})
        at_save = os.memfd_create("at_save")
        child = os.fork()
        if child == 0:
            try:
                run(config, None if kill is None else KillMe(*kill), at_save)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        saving = os.pread(at_save, 1, 0) == b"1"
        os.close(at_save)
        print(json.dumps({"kill": kill, "code": code, "was_saving": saving}), flush=True)
        if code == 1 or (code == 0 and kill is not None):
            break


if __name__ == "__main__":
    main()
