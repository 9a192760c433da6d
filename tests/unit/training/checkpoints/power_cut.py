"""A writer of checkpoints whose power is cut; takes the folder to write to.

Forks a writer for each of its file operations, which dies just before that one, and what it had not
brought to the disk by fsync is lost. FOLDER then holds a run folder `cut-NNNN` for each, and
`written.json`: the steps that the writer knew to be written, and the last model that it wrote.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.manager import CheckpointManager
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
from tests.unit.training.checkpoints.samples import make_checkpoint

DIED = 9
NUM_STEPS = 4
OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
POLICY = RetentionPolicy(newest=2)


class Power:
    """Goes off before file operation number `last` of this process."""

    def __init__(self, last: int) -> None:
        self._left = last
        self._synced: dict[tuple[int, int], int] = {}
        self._fsync = os.fsync
        self._is_off = False
        os.fsync = self._sync  # type: ignore[assignment]
        sys.addaudithook(self._watch)

    def _watch(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or self._is_off:
            return
        self._count()
        if event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR):
            self._is_off = True  # Opens the file itself, to know it by its number.
            descriptor = os.open(args[0], args[2] | os.O_CREAT, 0o666)
            status = os.fstat(descriptor)
            os.close(descriptor)
            self._is_off = False
            if args[2] & os.O_TRUNC:
                self._synced[status.st_dev, status.st_ino] = 0
            else:
                self._synced.setdefault((status.st_dev, status.st_ino), 0)

    def _sync(self, descriptor: int) -> None:
        self._count()
        status = os.fstat(descriptor)
        self._synced[status.st_dev, status.st_ino] = status.st_size
        self._fsync(descriptor)

    def _count(self) -> None:
        if self._left == 0:
            self._is_off = True
            self._lose_what_was_not_synced()
            os._exit(DIED)
        self._left -= 1

    def _lose_what_was_not_synced(self) -> None:
        """Half of it, while the names stay; files may have moved meanwhile."""
        for folder, _, files in os.walk(root):
            for file in files:
                path = os.path.join(folder, file)
                status = os.stat(path)
                synced = self._synced.get((status.st_dev, status.st_ino), status.st_size)
                os.truncate(path, synced + (status.st_size - synced) // 2)


def write(run: LocalFolder, tell: Callable[[str, int], None]) -> None:
    """What rank zero does to a run folder."""
    manager = CheckpointManager(run, POLICY, before=lambda: run.flush("metrics.jsonl"), start=0)
    run.write("config.json", b"{}")
    for step in range(1, NUM_STEPS + 1):
        run.append("metrics.jsonl", json.dumps({"step": step}).encode() + b"\n")
        # In this thread: what is told must have happened.
        manager._write(make_checkpoint(step), {})
        tell("step", step)
    for version in (1, 2):
        run.write("model.keras", bytes([version]) * 1000)
        tell("model", version)


def tell(pipe: int, what: str, which: int) -> None:
    os.write(pipe, f"{what} {which}\n".encode())


root = ""  # The folder of the run that is written at present.


def main() -> None:
    global root
    (folder,) = sys.argv[1:]
    written = []
    for number in range(10_000):
        root = str(Path(folder) / f"cut-{number:04d}")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            Power(number)
            write(
                LocalFolder(Path(root)),
                partial(tell, writer),
            )
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            known = {"step": 0, "model": 0} | {
                what: int(which) for what, which in (line.split() for line in told)
            }
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, DIED):
            raise RuntimeError(f"The writer of {root} failed. Received: exit code {code}.")
        written.append({"folder": root, **known})
        if code == 0:
            break
    (Path(folder) / "written.json").write_text(json.dumps(written))


if __name__ == "__main__":
    main()
