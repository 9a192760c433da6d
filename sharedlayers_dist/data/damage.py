"""Damage in a file, told from a read that failed: one rule for the whole package.

pyarrow raises the same types for bytes that mean nothing and for bytes that do not come. The first
are damage in a file, which is the user's, and whose rows may be left out. The second are not: the
same read may go well the next time. So files are read, or read again where that failed, as a
`NotedFile`, which knows whether the bytes came.

Reads that somebody waits for no longer than some time are first done without it: a read that hangs
within Python in one of pyarrow's threads crashes the process when that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Literal, TypeAlias, TypeVar

import pyarrow as pa
from pyarrow import fs

from sharedlayers_dist.errors import one_line
from sharedlayers_dist.storage.failures import storage_error

T = TypeVar("T")
OpenFile: TypeAlias = "Callable[[], AbstractContextManager[pa.NativeFile | NotedFile]]"
"""Opens a file; called once."""
OnBadRow = Literal["error", "skip"]
"""Whether rows that cannot be used stop the reading, or are left out and counted."""


class NotedFile:
    """A file for pyarrow to read, which notes what its storage fails with.

    It is opened by the first read, so that a file that cannot be opened is noted too.

    Args:
        filesystem: Where the file is.
        path: Its path there.
        buffer_size: Bytes that are read ahead, of a file that is read from its beginning to its
            end; 0 for a file that is read at any place.
    """

    def __init__(self, filesystem: fs.FileSystem, path: str, *, buffer_size: int = 0) -> None:
        self.error: OSError | None = None
        """What the storage failed with; None while all bytes have come."""
        self.closed = False
        self._filesystem = filesystem
        self._path = path
        self._buffer_size = buffer_size
        self._file: pa.NativeFile | None = None

    def read_buffer(self, num_bytes: int | None = None) -> pa.Buffer:
        """The next bytes, without a copy."""
        with self._noting():
            return self._opened().read_buffer(num_bytes)

    def read(self, num_bytes: int | None = None) -> bytes:
        """The next bytes."""
        with self._noting():
            return bytes(self._opened().read(num_bytes))

    def seek(self, position: int, whence: int = 0) -> int:
        """Goes to a place; some stores refuse one after the end, where damage may lead."""
        with self._noting():
            file = self._opened()
        return int(file.seek(position, whence))

    def tell(self) -> int:
        """The place in the file."""
        with self._noting():
            return int(self._opened().tell())

    def close(self) -> None:
        """Closes the file."""
        self.closed = True
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> NotedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> pa.NativeFile:
        if self._file is None and self._buffer_size:
            self._file = self._filesystem.open_input_stream(
                self._path, compression=None, buffer_size=self._buffer_size
            )
        elif self._file is None:
            self._file = self._filesystem.open_input_file(self._path)
        return self._file

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error
            raise


class DamageError(Exception):
    """A file's bytes have come and mean nothing; says what is wrong, without a full stop."""


def read_file(
    filesystem: fs.FileSystem,
    path: str,
    read: Callable[[OpenFile], T],
    *,
    place: str,
) -> T:
    """What `read` makes of a file; it is called once more where it fails, with a `NotedFile`.

    Args:
        filesystem: Where the file is.
        path: Its path there.
        read: Is called with what opens the file.
        place: Which file, and which part of it, is read.

    Raises:
        DamageError: where the bytes have come.
        MemoryError: where memory was wanting.
        UserError: where storage refused the file: it is gone, or may not be read.
        StorageError: where the bytes did not come.
    """
    try:
        return read(partial(filesystem.open_input_file, path))
    except MemoryError:
        raise
    except (pa.ArrowException, OSError):
        pass
    noted = NotedFile(filesystem, path)
    try:
        return read(lambda: noted)
    except (pa.ArrowException, OSError) as error:
        raise DamageError(reason_of_damage(error, noted, place)) from error


def reason_of_damage(error: Exception, file: NotedFile, place: str) -> str:
    """What is wrong with a file whose bytes have come, in one line without a full stop.

    Args:
        error: What reading the file failed with.
        file: The file.
        place: Which file, and which part of it, was read.

    Raises:
        MemoryError: where memory was wanting.
        UserError: where storage refused the file: it is gone, or may not be read.
        StorageError: where the bytes did not come.
    """
    if isinstance(error, MemoryError):
        raise error
    if file.error is not None:
        raise storage_error(file.error, f"{place}: it cannot be read") from error
    return one_line(error).rstrip(".")
