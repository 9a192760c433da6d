"""Where a run's files lie: a folder on a local disk, or on any filesystem that pyarrow knows.

Both kinds promise the same: what is read is what some write has written as a whole. A local disk
keeps it by temporary names, fsync and rename; an object store shows an object only when it is
whole, and of several objects the last one written counts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pyarrow import fs

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets

MANIFEST = "manifest.json"
"""The last file of a published folder: without it, the folder does not count."""

Pieces = Sequence[bytes | memoryview]
"""A file's contents, end to end: large ones need not be copied into one piece."""


class Folder(Protocol):
    """A folder of a run. Names are relative, with `/` between parts."""

    def __str__(self) -> str:
        """The path or URI, for people."""

    def read(self, name: str) -> bytes:
        """The contents of a file; FileNotFoundError where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file: a reader sees the old contents or the new, never a part."""

    def append(self, name: str, content: bytes) -> None:
        """Adds to the end of a file; `flush` makes it last."""

    def flush(self, name: str) -> None:
        """Returns when what was appended to a file would outlive this machine."""

    def names(self, name: str = "") -> list[str]:
        """Names of the files and folders in a folder, sorted; none where there is no folder."""

    def publish(self, name: str, files: Mapping[str, Pieces]) -> None:
        """Writes a folder of files, of which MANIFEST is the last, in place of any before."""

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that is in it, if it is there."""

    def clean(self, name: str = "") -> None:
        """Removes from a folder what an interrupted write has left under a name of its own."""

    def locate(self, name: str = "") -> tuple[str, fs.FileSystem]:
        """The path of a file or folder, and the filesystem that it is on."""


def open_folder(uri: str) -> Folder:
    """The folder that a path or a URI names; it need not exist.

    Raises:
        UserError: for a URI that pyarrow cannot make sense of.
    """
    if "://" not in uri:
        return LocalFolder(Path(uri))
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(
            "A run folder is a path or a URI that pyarrow knows. Received: "
            f"{hide_secrets(uri)!r} ({hide_secrets(' '.join(str(error).split()))})."
        ) from error
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalFolder(Path(path))
    return RemoteFolder(uri, filesystem, path)


class LocalFolder:
    """A folder on a disk of this machine, or on one that is mounted like it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        """The path."""
        return str(self.path)

    def read(self, name: str) -> bytes:
        """The contents of a file."""
        return (self.path / name).read_bytes()

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

    def names(self, name: str = "") -> list[str]:
        """Names in a folder, but for those that begin with a dot: they are not finished."""
        try:
            return sorted(n for n in os.listdir(self.path / name) if not n.startswith("."))
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


class RemoteFolder:
    """A folder on an object store or another filesystem that pyarrow reaches."""

    def __init__(self, uri: str, filesystem: fs.FileSystem, path: str) -> None:
        self._uri = uri
        self._filesystem = filesystem
        self._path = path.rstrip("/")
        self._appended: dict[str, bytes] = {}

    def __str__(self) -> str:
        """The URI without keys and options."""
        return hide_secrets(self._uri.split("?")[0])

    def read(self, name: str) -> bytes:
        """The contents of an object."""
        with self._filesystem.open_input_stream(f"{self._path}/{name}") as stream:
            return stream.read()

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, which is seen when it is whole."""
        self._appended.pop(name, None)
        self._write(name, [content])

    def _write(self, name: str, pieces: Pieces) -> None:
        parent = f"{self._path}/{name}".rpartition("/")[0]
        self._filesystem.create_dir(parent, recursive=True)
        with self._filesystem.open_output_stream(f"{self._path}/{name}") as stream:
            for piece in pieces:
                stream.write(piece)

    def append(self, name: str, content: bytes) -> None:
        """Keeps what is to be added: an object can only be written as a whole."""
        if name not in self._appended:
            try:
                self._appended[name] = self.read(name)
            except FileNotFoundError:
                self._appended[name] = b""
        self._appended[name] += content

    def flush(self, name: str) -> None:
        """Writes the object with what was added."""
        if name in self._appended:
            self._write(name, [self._appended[name]])

    def names(self, name: str = "") -> list[str]:
        """Names in a folder, but for those that begin with a dot."""
        selector = fs.FileSelector(f"{self._path}/{name}".rstrip("/"), allow_not_found=True)
        found = (info.base_name for info in self._filesystem.get_file_info(selector))
        return sorted(name for name in found if not name.startswith("."))

    def publish(self, name: str, files: Mapping[str, Pieces]) -> None:
        """Writes the objects in their order; those of an earlier try go first."""
        self.remove(name)
        for file, pieces in files.items():
            self._write(f"{name}/{file}", pieces)

    def remove(self, name: str) -> None:
        """Removes an object, or a folder: MANIFEST first, so that it no longer counts."""
        path = f"{self._path}/{name}"
        (info,) = self._filesystem.get_file_info([path])
        if info.type == fs.FileType.Directory:
            if MANIFEST in self.names(name):
                self._filesystem.delete_file(f"{path}/{MANIFEST}")
            self._filesystem.delete_dir(path)
        elif info.type == fs.FileType.File:
            self._filesystem.delete_file(path)

    def clean(self, name: str = "") -> None:
        """Does nothing: an object that was not written as a whole does not exist."""

    def locate(self, name: str = "") -> tuple[str, fs.FileSystem]:
        """The path in the store, bucket first, and the store."""
        return f"{self._path}/{name}".rstrip("/"), self._filesystem


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
