"""Items on this host's disk, mapped into memory: as much of them is in memory as there is room for.

Whatever asks for items at random, as batches of groups do, would read row groups again and again.
So all of a process's items are read once, and kept in files of its own without a name, which end
with it. Pages of a mapped file are the system's: it drops them where memory is short.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharedlayers_dist.data.items.codec import Items
from sharedlayers_dist.errors import UserError, one_line

T = TypeVar("T")


def store_items(parts: Iterable[Items]) -> Items:
    """Writes items to files and maps them.

    Args:
        parts: The items as one codec holds them, in parts, at least one; without nulls.

    Returns:
        All of them, end to end, held like the parts; they cannot be written to.

    Raises:
        UserError: where the folder of temporary files has no room for them.

    Example:
        >>> store_items([np.array([[1, 2], [3, 4]]), np.array([[5, 6]])]).tolist()
        [[1, 2], [3, 4], [5, 6]]
        >>> texts = store_items([pa.array(["a", "bc"], pa.large_string())] * 2)
        >>> texts.to_pylist()
        ['a', 'bc', 'a', 'bc']
    """
    parts = iter(parts)
    first = next(parts)
    if isinstance(first, np.ndarray):
        with _MappedFile() as numbers:
            for part in _chain(first, parts):
                numbers.write(part)
            return numbers.map(first.dtype).reshape(-1, *first.shape[1:])
    return _store_lists(first, parts)


def _store_lists(first: pa.Array, parts: Iterable[pa.Array]) -> pa.Array:
    """Stores texts, files, or lists of numbers: where each ends, and all values."""
    num_items = num_values = 0
    with _MappedFile() as ends, _MappedFile() as values:
        ends.write(np.zeros(1, np.int64))
        for part in _chain(first, parts):
            offsets = np.frombuffer(part.buffers()[1] or bytes(8), np.int64)
            offsets = offsets[part.offset : part.offset + len(part) + 1]
            values.write(_values_of(part, offsets))
            ends.write(offsets[1:] - offsets[0] + num_values)
            num_items += len(part)
            num_values += int(offsets[-1] - offsets[0])
        buffers = [None, pa.py_buffer(ends.map(np.dtype(np.int64)))]
        if not pa.types.is_large_list(first.type):
            data = pa.py_buffer(values.map(np.dtype(np.uint8)))
            return pa.Array.from_buffers(first.type, num_items, [*buffers, data])
        numbers = pa.array(values.map(np.dtype(first.type.value_type.to_pandas_dtype())))
        return pa.Array.from_buffers(first.type, num_items, buffers, children=[numbers])


def _values_of(part: pa.Array, offsets: NDArray[np.int64]) -> NDArray:
    if pa.types.is_large_list(part.type):
        return part.values.to_numpy()[offsets[0] : offsets[-1]]
    return np.frombuffer(part.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]


def _chain(first: T, others: Iterable[T]) -> Iterable[T]:
    yield first
    yield from others


class _MappedFile:
    """A file without a name, which is written from its beginning to its end and then mapped."""

    def __enter__(self) -> _MappedFile:
        try:
            self._file = tempfile.TemporaryFile()
        except OSError as error:
            raise _no_room(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file; what was mapped of it stays."""
        self._file.close()

    def write(self, values: NDArray) -> None:
        """Appends numbers."""
        if not values.size:  # A view of nothing has no bytes to be cast.
            return
        try:
            self._file.write(np.ascontiguousarray(values).data.cast("B"))
        except OSError as error:
            raise _no_room(error) from error

    def map(self, dtype: np.dtype) -> NDArray:
        """All numbers of the file, one dimension; they cannot be written to."""
        try:
            self._file.flush()
            if not self._file.tell():
                return np.empty(0, dtype)
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _no_room(error) from error
        return np.frombuffer(mapped, dtype)


def _no_room(error: OSError) -> UserError:
    return UserError(
        "Items are kept in the folder of temporary files while they are trained on. Received: "
        f"{one_line(error)}, in {tempfile.gettempdir()}. Set TMPDIR to a folder on a disk with "
        "room for them."
    )
