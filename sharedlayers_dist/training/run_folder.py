"""The run folder: what lies where, and that no run overwrites another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import is_refusal
from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.storage.run_lock import RunLock, lock_run, require_unlocked
from sharedlayers_dist.training.checkpoints import files as checkpoint_files
from sharedlayers_dist.training.stored_config import require_same_training, stored_config

CONFIG, METRICS = "config.json", "metrics.jsonl"
MODEL, BEST_MODEL = "model.keras", "best.keras"
RAY_SNAPSHOT = "checkpoint_manager_snapshot.json"
"""What Ray Train remembers of the checkpoints that were reported to it, while it runs."""


class RunFolder:
    """One run's files, on a local disk or any filesystem that pyarrow knows.

    `config.json`, `metrics.jsonl`, `checkpoints/step-XXXXXXXX/`, `model.keras`, `best.keras`.

    Args:
        uri: Path or URI; the folder need not exist.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.files = open_folder(uri)
        self._lock: RunLock | None = None

    def __str__(self) -> str:
        """The path or URI, for people."""
        return str(self.files)

    @property
    def has_begun(self) -> bool:
        """Whether there is anything of a run but its configuration."""
        return bool({METRICS, MODEL, checkpoint_files.FOLDER} & set(self.files.names()))

    @property
    def has_saved(self) -> bool:
        """Whether the run must have written a checkpoint: it has ended, or trained for two epochs.

        The checkpoint of an epoch is written before the next one ends.
        """
        names = self.files.names()
        lines = self.files.read(METRICS).splitlines() if METRICS in names else []
        return MODEL in names or sum(_is_of_epoch(line) for line in lines) > 1

    def lock(self, owner: str = "") -> None:
        """Makes this process the only one that writes to the folder, until `unlock`.

        Args:
            owner: Names the run over several starts of its processes, which follow each other.

        Raises:
            UserError: when another process writes to it, or it cannot be made.
        """
        with self._refusing_what_cannot_be_made():
            self._lock = lock_run(self.files, owner=owner)

    def require_locked(self) -> None:
        """Makes sure that no other process has taken the folder over.

        Raises:
            RunLockLostError: when one has.
        """
        if self._lock is not None:
            self._lock.require_held()

    @contextmanager
    def unlocking(self) -> Iterator[None]:
        """Unlocks the folder at the end, on the rank that has locked it."""
        try:
            yield
        finally:
            self.unlock()

    def unlock(self) -> None:
        """Lets other processes write to the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def claim(self, config: TrainConfig, facts: dict[str, Any]) -> None:
        """Makes the folder for a new run, or takes up the run that is in it.

        A run that ended before its first step, for wrong data perhaps, leaves its folder free.

        Args:
            config: The run's options, stored under their own names.
            facts: What the options were applied to (dataset fingerprints, the alphabet, versions).

        Raises:
            UserError: when the folder holds something else, or a run that `config` does not match.
        """
        self._require_free(config)
        if self._holds_run:
            require_same_training(self.read_config(), config, facts)
            return
        with self._refusing_what_cannot_be_made():
            text = json.dumps(stored_config(config, facts), indent=2) + "\n"
            self.files.write(CONFIG, text.encode())

    @contextmanager
    def _refusing_what_cannot_be_made(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not is_refusal(error):
                raise
            raise UserError(
                "The output must be a folder that can be made and written to. Received: "
                f"output={str(self)!r} ({error})."
            ) from error

    @property
    def _holds_run(self) -> bool:
        return CONFIG in self.files.names() and self.has_begun

    def require_usable(self, config: TrainConfig, owner: str = "") -> None:
        """Makes sure that nothing would be overwritten; writes nothing.

        Args:
            config: The run's options.
            owner: As for `lock`.

        Raises:
            UserError: when another process writes to the folder, or when it holds something else,
                or a run that is not to go on.
        """
        require_unlocked(self.files, owner=owner)
        self._require_free(config)

    def _require_free(self, config: TrainConfig) -> None:
        if self._holds_run:
            if not config.resume:
                raise UserError(
                    "The output folder holds another run, which is not overwritten. Received: "
                    f"output={str(self)!r}. Choose another folder, or go on with --resume."
                )
            return
        there = self.files.names()
        is_file = isinstance(self.files, LocalFolder) and self.files.path.is_file()
        is_free = not there or (there == [CONFIG] and "fingerprint" in self.read_config())
        if is_file or not is_free:
            raise UserError(
                "The output must be a new or empty folder. Received: "
                f"output={str(self)!r}, which holds something that is not a run."
            )

    def read_config(self) -> dict[str, Any]:
        """The stored configuration and facts.

        Raises:
            UserError: when the folder holds no run.
        """
        try:
            stored: dict[str, Any] = json.loads(self.files.read(CONFIG))
            if not isinstance(stored, dict):
                raise UserError(f"{type(stored).__name__} in place of an object")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                "A run folder holds a config.json. Received: "
                f"run={str(self)!r}, which has none. Name the --output of a training run."
            ) from None
        except ValueError as error:
            raise UserError(
                f"A run folder's config.json must be JSON. Received: {self}/{CONFIG} ({error})."
            ) from error
        return stored


def _is_of_epoch(line: bytes) -> bool:
    try:
        return bool(json.loads(line)["event"] == "epoch")
    except (ValueError, KeyError, TypeError):
        return False
