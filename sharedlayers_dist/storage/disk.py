"""A run's folder on a disk: whole writes by hidden names, fsync and rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pyarrow import fs

from sharedlayers_dist.storage.bounded_reads import read_bounded, read_file_bounded
from sharedlayers_dist.storage.protocol import Pieces


class LocalFolder:
    """A folder on a disk of this machine, or on one that is mounted like it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        """The path."""
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        return read_file_bounded(self.path / name)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file beside its name, then moves it there."""
        target = self.path / name
        _make_folder(target.parent)
        partial = target.with_name(f".{target.name}.partial")
        try:
            _write_durably(partial, [content])
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(target.parent)

    def append(self, name: str, content: bytes) -> None:
        """Adds to the end of a file."""
        with (self.path / name).open("ab") as file:
            file.write(content)

    def flush(self, name: str) -> None:
        """Brings a file to the disk, if it is there."""
        if (self.path / name).exists():
            _sync(self.path / name)

    def close(self, name: str) -> None:
        """Flushes: a file on a disk is one file all along."""
        self.flush(name)

    def names(self, name: str = "") -> list[str]:
        """Names in a folder, but for those that begin with a dot: they are not finished."""
        try:
            folder = self.path / name
            found = read_bounded(os.listdir, folder, what=str(folder))
            return sorted(n for n in found if not n.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def publish(self, name: str, files: Mapping[str, Pieces]) -> None:
        """Writes the folder beside its name, then moves it there."""
        target = self.path / name
        _make_folder(target.parent)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            for file, pieces in files.items():
                _write_durably(partial / file, pieces)
            _sync(partial)
            self.remove(name)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync(target.parent)

    def is_being_published(self, name: str) -> bool:
        """Never: a folder has its name when it is whole."""
        return False

    def remove(self, name: str) -> None:
        """Removes a file or a folder; of a folder no part is left under its name meanwhile."""
        target = self.path / name
        if target.is_dir():
            doomed = target.with_name(f".{target.name}.removed")
            shutil.rmtree(doomed, ignore_errors=True)
            target.rename(doomed)
            shutil.rmtree(doomed)
        else:
            target.unlink(missing_ok=True)

    def clean(self, name: str = "") -> None:
        """Removes hidden leftovers of `write`, `publish` and `remove`."""
        folder = self.path / name
        for path in [*folder.glob(".*.partial"), *folder.glob(".*.removed")]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def locate(self, name: str = "") -> tuple[str, fs.FileSystem]:
        """The absolute path, on this machine's disks."""
        return str((self.path / name).absolute()), fs.LocalFileSystem()


def _make_folder(path: Path) -> None:
    """Makes a folder and those above it, so that they outlive this machine."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync(path.parent)


def _write_durably(path: Path, pieces: Pieces) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
