"""Which files a path or URI names: one rule for pair datasets and for labelled items.

All files of a folder and of those below it that have an ending of data, in order of their names.
Names that begin with a dot or an underscore are passed over in silence, files and folders alike:
other programs put their markers and partial results there. Whatever else is left out is said in one
warning, and what must hold data but cannot be read is refused.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.damage import NotedFile, OpenFile
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.bounded_reads import iterate_bounded, read_bounded
from sharedlayers_dist.storage.failures import storage_error
from sharedlayers_dist.storage.uri import hide_secrets, open_filesystem

PARQUET = (".parquet", ".parq", ".pq")
"""Endings of Parquet files within a folder; a single file of a pair dataset may have any."""
_BYTES_AHEAD = 8 << 20
"""Of each column of a file that is gone through."""
_NUM_NAMED = 3
"""Files left out that are named."""


class FoundFile(NamedTuple):
    """One file of a dataset."""

    path: str
    """Path on the filesystem."""
    name: str
    """Path relative to the dataset's folder; what errors and fingerprints use."""
    size: int
    """Bytes."""


def find_files(
    uri: str, *, endings: Sequence[str] = PARQUET, what: str = "dataset", remedy: str = ""
) -> tuple[fs.FileSystem, list[FoundFile]]:
    """All data files in a folder and those below it, sorted by name; or the one file.

    On a disk, links are followed, and a folder that several lead to is read once, under its own
    name if it has one in there. Files with other endings, and empty ones of text, are left out with
    a warning that names them.

    Args:
        uri: a path or a URI that pyarrow knows.
        endings: endings of the names of data files, in lower case.
        what: what the files are together, for messages.
        remedy: a sentence to add where no file has such an ending.

    Raises:
        UserError: where there is nothing, or nothing with such an ending; for a link that leads
            nowhere, a folder that may not be listed, and a name of data that is no file.
        StorageError: where the storage fails.
    """
    filesystem, every, is_folder = list_files(uri, endings=endings, what=what)
    if not is_folder:
        return filesystem, every
    shown = hide_secrets(uri)
    # That text may be compressed need not be said each time.
    wanted = ", ".join(f"*{ending}" for ending in endings if ending.count(".") == 1)
    found, left_out = _choose(every, endings, wanted)
    if not found:
        raise UserError(
            f"A folder of data needs at least one file named {wanted}. "
            f"Received: {shown}, which has none{f', but {left_out}' if left_out else ''}."
            + (f" {remedy}" if remedy else "")
        )
    if left_out:
        warnings.warn(f"Left out of the {what} {shown}: {left_out}.", stacklevel=3)
    return filesystem, sorted(found, key=lambda file: file.name)


def list_files(
    uri: str, *, endings: Sequence[str], what: str
) -> tuple[fs.FileSystem, list[FoundFile], bool]:
    """All files in a folder and those below it but for markers, and True; or one file, and False.

    Args:
        uri: a path or a URI that pyarrow knows.
        endings: endings of names that only a file may have.
        what: what the files are together, for messages.

    Raises:
        UserError: where there is nothing, and as `find_files` for what is no file.
        StorageError: where the storage fails.
    """
    filesystem, base = open_filesystem(uri)
    shown = hide_secrets(uri)
    if not base:
        raise UserError(f"The {what} {shown} cannot be listed: it names nothing in its store.")
    try:
        info = read_bounded(filesystem.get_file_info, base, what=shown)
        if info.type == fs.FileType.File:
            return filesystem, [FoundFile(base, info.base_name, info.size)], False
        if info.type == fs.FileType.NotFound:
            raise UserError(f"There is no such {what}: {shown}.")
        if isinstance(filesystem, fs.LocalFileSystem):
            return filesystem, list(iterate_bounded(_walk(base, endings), what=shown)), True
        return filesystem, list(_list_store(filesystem, base)), True
    except (pa.ArrowException, OSError) as error:
        raise storage_error(error, f"The {what} {shown} cannot be listed") from error


def _choose(
    files: Sequence[FoundFile], endings: Sequence[str], wanted: str
) -> tuple[list[FoundFile], str]:
    """The files with data, and in words how many others there are, and which."""
    found: list[FoundFile] = []
    others: list[str] = []
    empty: list[str] = []
    for file in files:
        name = file.name.lower()
        if not name.endswith(tuple(endings)):
            others.append(file.name)
        elif not file.size and not name.endswith(PARQUET):
            empty.append(file.name)  # What some programs write where they have no rows.
        else:
            found.append(file)
    kinds = (_count_and_name(others, f"not named {wanted}"), _count_and_name(empty, "empty"))
    return found, " and ".join(filter(None, kinds))


def _list_store(filesystem: fs.FileSystem, base: str) -> Iterator[FoundFile]:
    """The files below a folder of a store, in one listing."""
    base = base.rstrip("/") + "/"
    for info in filesystem.get_file_info(fs.FileSelector(base, recursive=True)):
        name = info.path.removeprefix(base)
        if info.type == fs.FileType.File and not any(map(is_marker, name.split("/"))):
            yield FoundFile(info.path, name, info.size)


def _walk(base: str, endings: Sequence[str]) -> Iterator[FoundFile]:
    """The files below a folder on a disk, and of the folders that links lead to, each once."""
    seen: set[str] = set()
    folders, links = [""], list[str]()
    while folders or links:
        name = folders.pop() if folders else links.pop(0)
        folder = os.path.join(base, name)
        if os.path.realpath(folder) in seen:
            continue
        seen.add(os.path.realpath(folder))
        for entry in sorted(os.listdir(folder)):
            if is_marker(entry):
                continue
            path, below = os.path.join(folder, entry), os.path.join(name, entry)
            require_target(path)
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                (links if os.path.islink(path) else folders).append(below)
            elif stat.S_ISREG(status.st_mode) or not entry.lower().endswith(tuple(endings)):
                yield FoundFile(path, below, status.st_size)
            else:
                raise UserError(
                    f"{path} is named like data, and is neither a file nor a folder. Remove it."
                )


def require_target(path: str) -> None:
    """Refuses a link on a disk that leads nowhere: data would be missing.

    Raises:
        UserError: names the link.
    """
    if os.path.islink(path) and not os.path.exists(path):
        raise UserError(
            f"The link {path} leads nowhere, and data would be missing. Mend it or remove it."
        )


def _count_and_name(names: Sequence[str], what: str) -> str:
    """How many files are of one kind, and the first of them; empty where there is none."""
    if not names:
        return ""
    number = "1 file that is" if len(names) == 1 else f"{len(names):,} files that are"
    more = ", ..." if len(names) > _NUM_NAMED else ""
    return f"{number} {what} ({', '.join(sorted(names)[:_NUM_NAMED])}{more})"


def is_marker(name: str) -> bool:
    """Whether a file or folder is another program's marker or partial result."""
    return name[:1] in (".", "_")


def check_column(path: str, column: str, columns: Sequence[str], *, source: str = "") -> None:
    """Raises UserError unless just one of a file's `columns` has the name `column`.

    Args:
        path: the file.
        column: the name.
        columns: the names of the file's columns.
        source: where these names stand.
    """
    if columns.count(column) != 1:
        problem = "several columns" if column in columns else "no column"
        raise UserError(
            f"{path} has {problem} {column!r}. Its columns{source}: "
            f"{', '.join(map(repr, columns)) or 'none'}.{suggest_column(path, column, columns)}"
        )


def suggest_column(path: str, wanted: str, columns: Sequence[str]) -> str:
    """Where a column that a file has not may be; empty, or a sentence with a space before it.

    Args:
        path: the file's path, whose folders may be named `column=value`.
        wanted: the column that is looked for.
        columns: the names of those that are there.
    """
    if wanted in columns:
        return ""
    text = ""
    bare = {column.strip().casefold(): column for column in reversed(columns)}
    for near in get_close_matches(wanted.strip().casefold(), bare, n=1):
        text += f" Did you mean {bare[near]!r}?"
    for folder in path.split("/")[:-1]:
        if folder.startswith(f"{wanted}="):
            text += (
                f" {wanted!r} is in the name of the folder {folder!r}, and only what is in the "
                "files is read: write it into them as a column, as pyarrow.dataset does "
                "(`dataset(folder, partitioning='hive').to_table()`)."
            )
    return text


def warn_of_columns_in_folders(
    files: Sequence[FoundFile], optional: Sequence[str], columns: Sequence[str]
) -> None:
    """Warns where folders are named `column=value` for an `optional` column that files have not.

    Args:
        files: the files.
        optional: columns that are read where they are there.
        columns: those that are there.
    """
    missing = set(optional) - set(columns)
    folders = [
        folder
        for file in files
        for folder in file.name.split("/")[:-1]
        if folder.partition("=")[0] in missing
    ]
    if folders:
        warnings.warn(
            f"The names of folders are not read, such as {folders[0]!r}: where it is meant as a "
            "column, write it into the files.",
            stacklevel=3,
        )


def read_parquet_metadata(open_file: OpenFile) -> pq.FileMetaData:
    """Reads the footer of a Parquet file."""
    with open_file() as file:
        return pq.read_metadata(file)


def open_to_go_through(
    file: pa.NativeFile | NotedFile, metadata: pq.FileMetaData | None = None
) -> pq.ParquetFile:
    """Opens a Parquet file for `iter_batches` in bounded memory, however large its row groups.

    By default pyarrow fetches all that is asked for at once, and keeps it to the end.

    Args:
        file: The file.
        metadata: Its footer, if that has been read.
    """
    return pq.ParquetFile(file, metadata=metadata, pre_buffer=False, buffer_size=_BYTES_AHEAD)
