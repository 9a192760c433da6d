"""Where a run's figures go: lines of metrics.jsonl, events for TensorBoard."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

from sharedlayers_dist.errors import UserError, named_line
from sharedlayers_dist.storage.folder import Folder, LocalFolder
from sharedlayers_dist.storage.run_lock import RunLockLostError
from sharedlayers_dist.training.strict_json import without_infinities


class MetricsLog:
    """metrics.jsonl: one JSON object a line.

    Args:
        files: The run folder.
        name: The file's name in it.
        after: Lines of later steps than this are dropped: a resumed run writes them again.
        require_locked: Raises RunLockLostError when the folder is another process's by now.
    """

    def __init__(
        self,
        files: Folder,
        name: str,
        *,
        after: int,
        require_locked: Callable[[], None] = lambda: None,
    ) -> None:
        self._files = files
        self._require_locked = require_locked
        self._name = name
        if name in files.names():
            there = files.read(name)
            kept = b"".join(
                line for line in there.splitlines(keepends=True) if _is_kept(line, after)
            )
            if kept != there:
                files.write(name, kept)

    def append(self, line: dict[str, Any]) -> None:
        """Writes `line` behind what is there; null for a figure that is not finite."""
        text = json.dumps(without_infinities(line), allow_nan=False)
        self._files.append(self._name, f"{text}\n".encode())

    def flush(self) -> None:
        """Returns when all lines are on storage."""
        self._require_locked()
        self._files.flush(self._name)

    def close(self) -> None:
        """Flushes, and leaves one file that any program can read.

        Storage that does not take it is warned of: a run that fails has something better to say.
        """
        try:
            self._require_locked()
            self._files.close(self._name)
        except (OSError, RunLockLostError) as error:
            warnings.warn(
                f"The last lines of {self._files}/{self._name} could not be written: "
                f"{named_line(error)}",
                stacklevel=2,
            )


def _is_kept(line: bytes, after: int) -> bool:
    """Whether a line is whole, and of a step up to `after`."""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= after
    except ValueError:
        return False


class TensorBoardLog:
    """The same figures as events for TensorBoard, in the folder `tensorboard` of a local run.

    Args:
        files: The run folder.
        after: Events of later steps than this are dropped: a resumed run writes them again.

    Raises:
        UserError: when the run folder is not on a disk of this machine.
    """

    def __init__(self, files: Folder, *, after: int) -> None:
        if not isinstance(files, LocalFolder):
            raise UserError(
                "TensorBoard events are written to a local run folder only. Received: "
                f"output={str(files)!r}. Leave out --tensorboard."
            )
        folder = files.path / "tensorboard"
        for path in sorted(folder.glob("events.out.tfevents.*")):
            _drop_events(path, after)
        self._writer = tf.summary.create_file_writer(str(folder))

    def append(self, line: dict[str, Any]) -> None:
        """Writes the line's figures at its step; those of epochs begin with `epoch_`."""
        prefix = "epoch_" if line["event"] == "epoch" else ""
        with self._writer.as_default(step=line["step"]):
            for name, value in line.items():
                if name not in ("event", "step"):
                    tf.summary.scalar(prefix + name, value)
        self._writer.flush()


def _drop_events(path: Path, after: int) -> None:
    """Rewrites a file of events without those of later steps; TensorBoard would show both."""
    records = list(RawEventFileLoader(str(path)).Load())
    kept = [r for r in records if tf.compat.v1.Event.FromString(r).step <= after]
    if len(kept) == len(records):
        return
    partial = path.with_name(f".{path.name}.partial")
    with tf.io.TFRecordWriter(str(partial)) as writer:
        for record in kept:
            writer.write(record)
    partial.replace(path)
