"""Row groups of object stores, kept on a disk of this host.

What is kept is the columns that are read, as Arrow has them, in its stream format compressed with
zstd: about as large as Parquet, and read in less time than Parquet is decoded. The bytes of the
Parquet file would have to be found again by the offsets at which pyarrow asks for them. A file is
read and not mapped: its checksum takes all bytes anyway, and where a mapped file is cut short, or
its disk fails, the process ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import fs

from sharedlayers_dist.storage.file_cache import FileCache
from sharedlayers_dist.storage.uri import hide_secrets

_FORMAT = f"1, pyarrow {pa.__version__}"
"""Copies of another format, or of a pyarrow that might not be read, are not looked for."""


@dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where copies of row groups are kept. Plain values: it is pickled and sent to others."""

    folder: str
    """On a disk of the host that reads; all processes of a host may share it."""
    max_bytes: int
    """The most bytes of all copies together."""

    def open(self) -> FileCache:
        """The cache on this host.

        Raises:
            UserError: for a folder that cannot be written to.
        """
        return FileCache(self.folder, max_bytes=self.max_bytes)


class RowGroupCache:
    """Copies of the row groups of one dataset; may be used by several threads.

    A copy is of one version of a file: its size, its time, and the ETag that an object store gives
    each version. What is looked for is the version that the file has when it is first asked for.

    Args:
        files: What holds the copies.
        filesystem: Where the dataset is.
        uri: The dataset's.
        columns: Those that are read.
    """

    def __init__(
        self, files: FileCache, filesystem: fs.FileSystem, uri: str, columns: Sequence[str]
    ) -> None:
        self._files = files
        self._filesystem = filesystem
        self._dataset = (_FORMAT, hide_secrets(uri), tuple(columns))
        self._versions: dict[str, str] = {}

    def find(self, path: str, row_group: int, num_rows: int) -> pa.Table | None:
        """The columns of a row group of a file; None where there is no sound copy."""
        version = self._version_of(path)
        if not version:
            return None
        content = self._files.read(self._name(path, version, row_group, num_rows))
        if content is None:
            return None
        options = pa.ipc.IpcReadOptions(use_threads=False)
        return pa.ipc.open_stream(content, options=options).read_all()

    def keep(self, path: str, version: str, row_group: int, table: pa.Table) -> None:
        """Keeps the columns of a row group.

        Args:
            path: Of the file.
            version: Of the file that they were read from, as `version_of` has it.
            row_group: Its number in the file.
            table: The columns.
        """
        if not version:
            return
        content = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
        with pa.ipc.new_stream(content, table.schema, options=options) as stream:
            stream.write_table(table)
        name = self._name(path, version, row_group, table.num_rows)
        self._files.write(name, content.getvalue())

    def _version_of(self, path: str) -> str:
        if path not in self._versions:
            try:
                with self._filesystem.open_input_file(path) as file:
                    self._versions[path] = version_of(file)
            except OSError:  # The reading that follows meets it, too, and says where.
                return ""
        return self._versions[path]

    def _name(self, path: str, version: str, row_group: int, num_rows: int) -> str:
        return repr((*self._dataset, path, version, row_group, num_rows))


def version_of(file: object) -> str:
    """What tells the version of an open file from all others; empty where its store gives no ETag.

    Object stores do, a disk and HDFS do not.
    """
    if not isinstance(file, pa.NativeFile):
        return ""
    told = {name.lower(): value for name, value in file.metadata().items()}
    etag = told.get("etag")
    return repr((file.size(), etag, told.get("last-modified"))) if etag else ""
