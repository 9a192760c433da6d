"""The run folder: what lies where, and that no run overwrites another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import is_refusal
from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.storage.run_lock import RunLock, lock_run, require_unlocked
from sharedlayers_dist.text_imports import SourceModule
from sharedlayers_dist.training.checkpoints import files as checkpoint_files
from sharedlayers_dist.training.stored_config import require_same_training, stored_config
from sharedlayers_dist.user_code import UserCode

CONFIG, METRICS = "config.json", "metrics.jsonl"
MODEL, BEST_MODEL = "model.keras", "best.keras"
SOURCE = "source"
"""Folder of the sources of a model of one's own, and what config.json calls their hashes."""
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

    def claim(
        self, config: TrainConfig, facts: dict[str, Any], code: UserCode | None = None
    ) -> None:
        """Makes the folder for a new run, or takes up the run that is in it.

        A run that ended before its first step, for wrong data perhaps, leaves its folder free.

        Args:
            config: The run's options, stored under their own names.
            facts: What the options were applied to (dataset fingerprints, the alphabet, versions).
            code: The sources of a model of one's own, of which a new run keeps a copy.

        Raises:
            UserError: when the folder holds something else, or a run that `config` does not match.
        """
        self._require_free(config)
        if self._holds_run:
            require_same_training(self.read_config(), config, facts)
            return
        with self._refusing_what_cannot_be_made():
            text = json.dumps(stored_config(config, facts), indent=2) + "\n"
            for module in code.modules if code else ():
                self.files.write(f"{SOURCE}/{module.path}", module.text.encode())
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
        is_free = not there or (
            set(there) <= {CONFIG, SOURCE} and "fingerprint" in self.read_config()
        )
        if is_file or not is_free:
            raise UserError(
                "The output must be a new or empty folder. Received: "
                f"output={str(self)!r}, which holds something that is not a run."
            )

    def read_code(self) -> UserCode | None:
        """The sources of the run's model that it keeps; None for a model of the zoo.

        Raises:
            UserError: when the folder holds no run, or other sources than it was trained with.
        """
        stored = self.read_config().get(SOURCE)
        if stored is None:
            return None
        module, _, function = stored["entry"].partition(":")
        modules = tuple(self._read_module(name) for name in stored["modules"])
        code = UserCode(module=module, function=function, modules=modules)
        if code.digests != stored["modules"]:
            changed = [
                name for name, digest in code.digests.items() if digest != stored["modules"][name]
            ]
            raise UserError(
                "A run keeps the sources that its model was made with. Received: "
                f"{self}/{SOURCE}, where {', '.join(changed)} has been changed. Name your own with "
                "--model."
            )
        return code

    def _read_module(self, name: str) -> SourceModule:
        for is_package in (False, True):
            module = SourceModule(name=name, text="", file="", is_package=is_package)
            path = f"{SOURCE}/{module.path}"
            try:
                text = self.files.read(path).decode()
            except (FileNotFoundError, NotADirectoryError):
                continue
            return replace(module, text=text, file=f"{self}/{path}")
        raise UserError(
            "A run keeps the sources that its model was made with. Received: "
            f"{self}/{SOURCE}, which lacks the module {name}. Name your own with --model."
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
