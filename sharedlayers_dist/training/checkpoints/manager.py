"""The checkpoints that a run has: written beside the training, removed when they need not stay."""

from __future__ import annotations

import time
from collections.abc import Callable

from sharedlayers_dist.errors import named_line
from sharedlayers_dist.storage.folder import Folder
from sharedlayers_dist.training.checkpoints.background import BackgroundWriter
from sharedlayers_dist.training.checkpoints.files import (
    FOLDER,
    Checkpoint,
    DamagedCheckpointError,
    list_checkpoints,
    read_manifest,
    step_of_name,
    write_checkpoint,
)
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy, select_obsolete

_SECONDS_TO_CLOSE = 20.0


class CheckpointWriteError(RuntimeError):
    """A checkpoint that could not be written, or an old one that could not be removed.

    Rank zero tells all of it.
    """

    raised_on_all_ranks = True


class CheckpointManager:
    """Writes a run's checkpoints in the background and removes those that need not stay.

    On rank zero alone.

    Args:
        run: The run folder.
        policy: Which checkpoints stay.
        before: Called in the background before each is written (to bring the metrics to disk).
        start: The step that the run goes on from. Checkpoints of later steps were passed over for
            it as damaged; they count for nothing and go when the next one has been written.
    """

    def __init__(
        self, run: Folder, policy: RetentionPolicy, *, before: Callable[[], None], start: int
    ) -> None:
        self._run = run
        self._policy = policy
        self._before = before
        self._writer = BackgroundWriter()
        self._metrics = {step: m for step, m in read_metrics(run).items() if step <= start}

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writer.is_busy

    def save(self, checkpoint: Checkpoint, metrics: dict[str, float]) -> None:
        """Begins to write `checkpoint`; the one before must have been written (`wait`).

        Args:
            checkpoint: What to write.
            metrics: Those of the epoch that it ends; none in the middle of one.
        """
        self._writer.start(lambda: self._write(checkpoint, metrics))

    def take_error(self) -> Exception | None:
        """What writing has failed with, once; None while it goes on."""
        return self._writer.take_error()

    def wait(self, seconds: float) -> bool:
        """Waits until everything is written, so long at most; whether it is."""
        return self._writer.wait(seconds)

    def close(self) -> None:
        """Waits a while for what is being written. A run that fails must not wait for ever."""
        self._writer.wait(_SECONDS_TO_CLOSE)

    def _write(self, checkpoint: Checkpoint, metrics: dict[str, float]) -> None:
        try:
            self._before()
            summary = {"metrics": metrics, "saved_at": time.time()}
            write_checkpoint(self._run, checkpoint, summary)
            self._metrics[checkpoint.step] = metrics
            self._clear()
        except Exception as error:
            raise CheckpointWriteError(
                f"A run must be able to write its checkpoints. Received: {named_line(error)} at "
                f"step {checkpoint.step} in {self._run}. Earlier checkpoints are as they were: see "
                "to the storage and go on with --resume."
            ) from error

    def _clear(self) -> None:
        """Removes what need not stay, and what an interrupted writing or removing has left."""
        for step in select_obsolete(self._metrics, self._policy):
            del self._metrics[step]
        for name in list_checkpoints(self._run):
            if step_of_name(name) not in self._metrics:
                self._run.remove(f"{FOLDER}/{name}")


def read_metrics(run: Folder) -> dict[int, dict[str, float]]:
    """The metrics of each finished checkpoint of a run, by its step."""
    found = {}
    for name in list_checkpoints(run):
        try:
            found[step_of_name(name)] = read_manifest(run, name).get("metrics", {})
        except DamagedCheckpointError:
            continue  # It does not count, and reading for a resume has said so.
    return found
