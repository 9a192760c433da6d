"""A run's folder on an object store: an object is seen when it is whole, and cannot grow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyarrow import fs

from sharedlayers_dist.storage.protocol import MANIFEST, Pieces
from sharedlayers_dist.storage.uri import hide_secrets

_MOST_PARTS = 64
"""Parts of a file that grows, after which they are made one: each costs a reader a request."""
_SECONDS_TO_WAIT = 20.0
"""How long a flush waits for another thread's, which may hang in a store that does not answer."""
_UNFINISHED = ".unfinished"
"""Lies in a folder from the beginning of its publishing to the end."""


class RemoteFolder:
    """A folder on an object store or another filesystem that pyarrow reaches.

    A file that grows is an object and parts beside it, each with what one `flush` has added, whose
    names say at which byte they begin. Reading puts them together; `close`, and every so many
    parts, makes them one object. A part that does not begin where the bytes before it end has been
    merged already, or was cut off by a later `write`: whoever did that was killed before they could
    remove it, and it does not count.
    """

    def __init__(self, uri: str, filesystem: fs.FileSystem, path: str) -> None:
        self._uri = uri
        self._filesystem = filesystem
        self._path = path.rstrip("/")
        self._pending: dict[str, bytes] = {}
        """What was appended to each file since the last flush."""
        self._sizes: dict[str, int] = {}
        """Bytes of each file that grows, with its parts."""
        self._appending = threading.Lock()  # Held for a moment; the training appends.
        self._flushing = threading.Lock()  # Held while the store is written to.

    def __str__(self) -> str:
        """The URI without keys and options."""
        return hide_secrets(self._uri.split("?")[0])

    def read(self, name: str) -> bytes:
        """The contents of an object and of its parts."""
        parts = self._parts(name)
        try:
            content = self._read(name)
        except FileNotFoundError:
            if not parts:
                raise
            content = b""
        for part in parts:
            if int(part) == len(content):
                content += self._read(f"{_parts_folder(name)}/{part}")
        return content

    def _read(self, name: str) -> bytes:
        with self._filesystem.open_input_stream(f"{self._path}/{name}") as stream:
            return stream.read()

    def _parts(self, name: str) -> list[str]:
        return sorted(self._list(_parts_folder(name)))

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, which is seen when it is whole; parts of an earlier one go."""
        with self._appending:
            self._pending.pop(name, None)
        self._sizes.pop(name, None)
        self._write(name, [content])
        self._remove_parts(name)

    def _write(self, name: str, pieces: Pieces) -> None:
        parent = f"{self._path}/{name}".rpartition("/")[0]
        self._filesystem.create_dir(parent, recursive=True)
        with self._filesystem.open_output_stream(f"{self._path}/{name}") as stream:
            for piece in pieces:
                stream.write(piece)

    def append(self, name: str, content: bytes) -> None:
        """Keeps what is to be added until it is flushed."""
        with self._appending:
            self._pending[name] = self._pending.get(name, b"") + content

    def flush(self, name: str) -> None:
        """Writes what was added as a part.

        Raises:
            OSError: when the store does not take it; another flush tries again.
        """
        with self._one_at_a_time(name):
            self._flush(name)
            if len(self._parts(name)) >= _MOST_PARTS:
                self._merge(name)

    def close(self, name: str) -> None:
        """Writes what was added, and makes one object of all parts."""
        with self._one_at_a_time(name):
            self._flush(name)
            if self._parts(name):
                self._merge(name)

    @contextmanager
    def _one_at_a_time(self, name: str) -> Iterator[None]:
        if not self._flushing.acquire(timeout=_SECONDS_TO_WAIT):
            raise TimeoutError(f"{self}/{name} is still being written.")
        try:
            yield
        finally:
            self._flushing.release()

    def _flush(self, name: str) -> None:
        pending = self._pending.get(name)
        if not pending:
            return
        if name not in self._sizes:
            self._sizes[name] = len(self.read(name)) if self._is_there(name) else 0
        self._write(f"{_parts_folder(name)}/{self._sizes[name]:016d}", [pending])
        self._sizes[name] += len(pending)
        with self._appending:  # More may have been added meanwhile.
            self._pending[name] = self._pending[name][len(pending) :]

    def _is_there(self, name: str) -> bool:
        folder, _, base = name.rpartition("/")
        return base in self.names(folder)

    def _merge(self, name: str) -> None:
        """Makes one object of a file's parts; it is whole before they go."""
        self._write(name, [self.read(name)])
        self._remove_parts(name)

    def _remove_parts(self, name: str) -> None:
        if self._parts(name):
            self._filesystem.delete_dir(f"{self._path}/{_parts_folder(name)}")

    def names(self, name: str = "") -> list[str]:
        """Names in a folder, but for those that begin with a dot; a file may be parts alone."""
        found = self._list(name)
        growing = {_grown(hidden) for hidden in found if _grown(hidden)}
        return sorted({name for name in found if not name.startswith(".")} | growing)

    def _list(self, name: str) -> list[str]:
        selector = fs.FileSelector(f"{self._path}/{name}".rstrip("/"), allow_not_found=True)
        return [info.base_name for info in self._filesystem.get_file_info(selector)]

    def publish(self, name: str, files: Mapping[str, Pieces]) -> None:
        """Writes the objects in their order; those of an earlier try go first."""
        self.remove(name)
        self._write(f"{name}/{_UNFINISHED}", [b""])
        for file, pieces in files.items():
            self._write(f"{name}/{file}", pieces)
        self._filesystem.delete_file(f"{self._path}/{name}/{_UNFINISHED}")

    def is_being_published(self, name: str) -> bool:
        """Whether the folder has the mark of the beginning, and no MANIFEST yet."""
        there = self._list(name)
        return _UNFINISHED in there and MANIFEST not in there

    def remove(self, name: str) -> None:
        """Removes an object, or a folder: MANIFEST first, so that it no longer counts."""
        path = f"{self._path}/{name}"
        (info,) = self._filesystem.get_file_info([path])
        if info.type == fs.FileType.Directory:
            if MANIFEST in self.names(name):
                self._filesystem.delete_file(f"{path}/{MANIFEST}")
            self._filesystem.delete_dir(path)
            return
        if info.type == fs.FileType.File:
            self._filesystem.delete_file(path)
        self._remove_parts(name)

    def clean(self, name: str = "") -> None:
        """Does nothing: an object that was not written as a whole does not exist."""

    def locate(self, name: str = "") -> tuple[str, fs.FileSystem]:
        """The path in the store, bucket first, and the store."""
        return f"{self._path}/{name}".rstrip("/"), self._filesystem


def _parts_folder(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}.{base}.parts"


def _grown(hidden: str) -> str:
    """The file that a folder of parts belongs to; empty for any other name."""
    is_folder_of_parts = hidden.startswith(".") and hidden.endswith(".parts")
    return hidden[1 : -len(".parts")] if is_folder_of_parts else ""
