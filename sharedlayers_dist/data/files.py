"""Finding a dataset's Parquet files."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.uri import hide_secrets, open_filesystem

SUFFIXES = (".parquet", ".parq", ".pq")
"""Names of Parquet files within a folder; a single file may have any name."""
_BYTES_AHEAD = 8 << 20
"""Of each column of a file that is gone through."""


class FoundFile(NamedTuple):
    """One file of a dataset."""

    path: str
    """Path on the filesystem."""
    name: str
    """Path relative to the dataset's folder; what errors and fingerprints use."""
    size: int
    """Bytes."""


def find_files(uri: str) -> tuple[fs.FileSystem, list[FoundFile]]:
    """All Parquet files in a folder and those below it, sorted by path; or the one file.

    Names that begin with a dot or an underscore are left out, files and folders alike: other
    programs put their markers and partial results there.

    Raises:
        UserError: where there is nothing, or nothing in Parquet.
    """
    filesystem, base = open_filesystem(uri)
    try:
        info = filesystem.get_file_info(base)
        if info.type == fs.FileType.File:
            return filesystem, [FoundFile(base, info.base_name, info.size)]
        if info.type == fs.FileType.NotFound:
            raise UserError(f"There is no such dataset: {hide_secrets(uri)}.")
        infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except OSError as e:
        raise UserError(f"The dataset {hide_secrets(uri)} cannot be listed: {one_line(e)}") from e
    base = base.rstrip("/") + "/"
    found = [
        FoundFile(i.path, i.path.removeprefix(base), i.size)
        for i in infos
        if i.type == fs.FileType.File and i.base_name.lower().endswith(SUFFIXES)
    ]
    found = [f for f in found if not any(part[0] in "._" for part in f.name.split("/"))]
    if not found:
        raise UserError(
            "A dataset needs at least one file named *.parquet. "
            f"Received: {hide_secrets(uri)}, which has none."
        )
    return filesystem, sorted(found, key=lambda f: f.name)


def open_to_go_through(filesystem: fs.FileSystem, path: str) -> pq.ParquetFile:
    """Opens a Parquet file for `iter_batches` in bounded memory, however large its row groups.

    By default pyarrow fetches all that is asked for at once, and keeps it to the end.
    """
    return pq.ParquetFile(path, filesystem=filesystem, pre_buffer=False, buffer_size=_BYTES_AHEAD)
