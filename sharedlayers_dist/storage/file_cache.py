"""A bounded folder of copies of what lies far away, shared by a host's processes without locks.

Each copy is a file: a checksum and the content. It is written under a hidden name and then renamed,
so that under its own name it is whole, and what was cut off, changed or put there by others has
another checksum and does not count. A file that is removed stays readable for who has opened it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import threading
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import local_path

_CHECKSUM_BYTES = 32
_OWN_NAME = re.compile(r"[0-9a-f]{40}\.copy|\.[0-9a-f]{40}\.\w+\.partial")
"""Other files of the folder are left alone."""
_STALE_SECONDS = 3600.0
"""A hidden file that was not written to for so long is a killed process's."""
_MOST_FULL, _LESS_FULL = 15 / 16, 7 / 8
"""Shares of the bound: from the one on files are removed, until there are less than the other."""


class FileCache:
    """Copies of contents by what they are copies of; may be used by several threads.

    Nothing that goes wrong in the folder later on is an error: a copy that cannot be read counts as
    missing, and one that cannot be written is left out, with one warning.

    Every process counts the bytes that it writes, and looks at the whole folder when it opens it,
    and whenever it has written a small share of the bound, after that writing. So, as long as no
    more than two caches a core are open, the folder has no more bytes than the bound but for a
    moment: a file for each process that is writing one.

    Args:
        folder: On this machine's disks; it is made. The files that were used last stay.
        max_bytes: The most bytes of all copies together.

    Raises:
        UserError: for a folder that cannot be written to.

    Example:
        >>> cache = FileCache("copies", max_bytes=1000)
        >>> cache.read("s3://bucket/a, version 1") is None
        True
        >>> cache.write("s3://bucket/a, version 1", b"content")
        >>> cache.read("s3://bucket/a, version 1").to_pybytes()
        b'content'
        >>> dict(cache.counts)
        {'missing': 1, 'found': 1}
    """

    def __init__(self, folder: str, *, max_bytes: int) -> None:
        self._folder = Path(local_path(folder, name="data_cache"))
        self._max_bytes = max_bytes
        self._bytes_between_looks = max_bytes * (1 - _MOST_FULL) / (2 * (os.cpu_count() or 1))
        self._bytes_written = 0
        self._lock = threading.Lock()
        self._has_warned = False
        self.counts: Counter[str] = Counter()
        """How many copies were `found` and were `missing`, and how many of these were `damaged`;
        how many could not be written (`not_kept`)."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder):
                pass
            self._trim()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # That may pass: `write` says it.
                raise UserError(
                    "The cache must be a folder that can be written to. Received: "
                    f"data_cache={str(self._folder)!r} ({error.strerror}). Name another folder, or "
                    "leave it out to read without a cache."
                ) from error

    def read(self, name: str) -> pa.Buffer | None:
        """The content that was written under a name, of any length; None where it is not there."""
        path = self._path(name)
        try:
            stored = memoryview(path.read_bytes())
        except FileNotFoundError:
            self._count("missing")
            return None
        except OSError:
            stored = memoryview(b"")
        checksum, content = stored[:_CHECKSUM_BYTES], stored[_CHECKSUM_BYTES:]
        if checksum != _checksum(name, content):
            self._count("missing", "damaged")
            return None
        with suppress(OSError):  # It may have been removed meanwhile.
            os.utime(path)
        self._count("found")
        return pa.py_buffer(content)

    def write(self, name: str, content: pa.Buffer | bytes) -> None:
        """Keeps a content under a name, in the place of any other."""
        content = pa.py_buffer(content)
        try:
            if content.size > self._max_bytes * _LESS_FULL:
                raise OSError(errno.EFBIG, f"It has {content.size:,} bytes")
            self._write(self._path(name), _checksum(name, content), content)
            with self._lock:
                self._bytes_written += content.size
                is_due = self._bytes_written > self._bytes_between_looks
                if is_due:
                    self._bytes_written = 0
            if is_due:
                self._trim()
        except OSError as error:
            self._count("not_kept")
            self._warn(error)

    def _write(self, path: Path, checksum: bytes, content: pa.Buffer) -> None:
        descriptor, partial = tempfile.mkstemp(".partial", f".{path.stem}.", self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(checksum)
                file.write(content)
            os.replace(partial, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(partial)
            raise

    def _trim(self) -> None:
        """Removes the files that were not used for the longest, if there are too many."""
        found = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if _OWN_NAME.fullmatch(entry.name) and not _is_being_written(entry):
                        status = entry.stat()
                        found.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        if total <= self._max_bytes * _MOST_FULL:
            return
        for _, size, path in sorted(found):
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
            if total <= self._max_bytes * _LESS_FULL:
                return

    def _path(self, name: str) -> Path:
        return self._folder / f"{hashlib.blake2b(name.encode(), digest_size=20).hexdigest()}.copy"

    def _count(self, *what: str) -> None:
        with self._lock:
            self.counts.update(what)

    def _warn(self, error: OSError) -> None:
        with self._lock:
            is_first, self._has_warned = not self._has_warned, True
        if is_first:
            warnings.warn(
                f"The cache {self._folder} of {self._max_bytes / 1e9:g} GB keeps less than it "
                f"could: {error.strerror}. What is missing is read from where it lies.",
                stacklevel=3,
            )


def _is_being_written(entry: os.DirEntry[str]) -> bool:
    is_hidden = entry.name.startswith(".")
    return is_hidden and time.time() - entry.stat().st_mtime < _STALE_SECONDS


def _checksum(name: str, content: pa.Buffer | memoryview) -> bytes:
    """Of all bytes, and of the name: a file under another's name is none of it."""
    key = hashlib.blake2b(name.encode()).digest()
    return hashlib.blake2b(content, key=key, digest_size=_CHECKSUM_BYTES).digest()
