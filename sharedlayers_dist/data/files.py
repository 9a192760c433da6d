"""Finding a dataset's Parquet files on any filesystem that pyarrow knows."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

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


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a path or URI (`file://`, `s3://`, `gs://`, `hdfs://`), and the path on it.

    Raises:
        ValueError: for a URI that pyarrow does not know.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, OSError) as e:
        raise ValueError(
            f"pyarrow must know the filesystem of a dataset's URI. Received: "
            f"{hide_secrets(uri)!r}. {hide_secrets(one_line(e))}"
        ) from e
    return filesystem, path


def find_files(uri: str) -> tuple[fs.FileSystem, list[FoundFile]]:
    """All Parquet files in a folder and those below it, sorted by path; or the one file.

    Names that begin with a dot or an underscore are left out, files and folders alike: other
    programs put their markers and partial results there.

    Raises:
        ValueError: where there is nothing, or nothing in Parquet.
    """
    filesystem, base = open_filesystem(uri)
    try:
        info = filesystem.get_file_info(base)
        if info.type == fs.FileType.File:
            return filesystem, [FoundFile(base, info.base_name, info.size)]
        if info.type == fs.FileType.NotFound:
            raise ValueError(f"There is no such dataset: {hide_secrets(uri)}.")
        infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except OSError as e:
        raise ValueError(f"The dataset {hide_secrets(uri)} cannot be listed: {one_line(e)}") from e
    base = base.rstrip("/") + "/"
    found = [
        FoundFile(i.path, i.path.removeprefix(base), i.size)
        for i in infos
        if i.type == fs.FileType.File and i.base_name.lower().endswith(SUFFIXES)
    ]
    found = [f for f in found if not any(part[0] in "._" for part in f.name.split("/"))]
    if not found:
        raise ValueError(
            "A dataset needs at least one file named *.parquet. "
            f"Received: {hide_secrets(uri)}, which has none."
        )
    return filesystem, sorted(found, key=lambda f: f.name)


def open_to_go_through(filesystem: fs.FileSystem, path: str) -> pq.ParquetFile:
    """Opens a Parquet file for `iter_batches` in bounded memory, however large its row groups.

    By default pyarrow fetches all that is asked for at once, and keeps it to the end.
    """
    return pq.ParquetFile(path, filesystem=filesystem, pre_buffer=False, buffer_size=_BYTES_AHEAD)


def subfolder(uri: str, name: str) -> str:
    """The path or URI of a folder in a folder; a URI's options stay at its end."""
    base, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{options}"


def hide_secrets(uri: str) -> str:
    """A URI as it may be shown and stored: without the name and password before the host.

    A slash in a password should have been escaped, but is no reason to show the password.
    """
    return re.sub(r"(\w+://)([^/@\s]*|[^/@:]*:(?!\d+/)[^@\s]*)@", r"\1***@", uri)


def one_line(error: BaseException) -> str:
    """An error's text without line breaks, such as Arrow puts into some."""
    return " ".join(str(error).split())
