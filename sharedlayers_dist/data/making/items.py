"""Labelled items to make pairs of: read batch by batch from files, or held in memory.

A source can be read several times and gives the same items in the same order each time; no more
than one batch of them is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.files import open_to_go_through
from sharedlayers_dist.data.making.text_files import (
    BadRows,
    TextFile,
    check_column,
    iter_csv,
    iter_json_lines,
)
from sharedlayers_dist.data.schema import is_text
from sharedlayers_dist.data.text import is_utf8
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.uri import hide_secrets

ROWS_PER_BATCH = 16_384
_CHARACTERS_PER_BATCH = 16 << 20
_BYTES_PER_BATCH = 64 << 20
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".parq", ".pq")


class ItemBatch(NamedTuple):
    """Consecutive items of a source."""

    items: pa.Array
    """`string`, or uint8 `fixed_shape_tensor`."""
    groups: pa.Array
    """`string`, whose item it is; no nulls."""


class ItemSource(Protocol):
    """Items that can be gone through any number of times."""

    @property
    def item_type(self) -> pa.DataType:
        """Arrow type of the items."""
        ...

    @property
    def num_bad_rows(self) -> int:
        """Rows that the last complete pass left out."""
        ...

    def iter_batches(self) -> Iterator[ItemBatch]:
        """Goes through the items, always in the same order."""
        ...


@dataclass
class ArrayItems:
    """Items that are in memory already."""

    items: pa.Array
    groups: pa.Array
    num_bad_rows: int = 0

    @property
    def item_type(self) -> pa.DataType:
        """Arrow type of the items."""
        return self.items.type

    def iter_batches(self) -> Iterator[ItemBatch]:
        """Goes through the items in batches."""
        for start in range(0, len(self.items), ROWS_PER_BATCH):
            stop = start + ROWS_PER_BATCH
            yield ItemBatch(self.items[start:stop], self.groups[start:stop])


class FileItems:
    """Items in a CSV, JSON lines or Parquet file, or in a folder of such files.

    Args:
        path: a local path or a URI that pyarrow knows; text files may be compressed.
        column: the column with the items.
        group: the column that says whose item it is; integers are taken as their digits.
        kind: whether the items are texts or images.
        on_bad_row: stop at a row that has no item or no group or cannot be read, or leave it out.

    Raises:
        UserError: when there is no such file, its format is unknown, or a column is missing or
            of another type.
    """

    def __init__(
        self,
        path: str,
        *,
        column: str,
        group: str,
        kind: Literal["text", "image"] = "text",
        on_bad_row: Literal["error", "skip"] = "error",
    ):
        self._column, self._group, self._kind = column, group, kind
        self._skip = on_bad_row == "skip"
        self._filesystem, self._paths = _find_files(path)
        self.num_bad_rows = 0
        self.item_type = pa.string()
        if kind == "image":
            self.item_type = self._image_type()

    def iter_batches(self) -> Iterator[ItemBatch]:
        """Goes through the files' rows, file by file.

        Raises:
            UserError: names the file, the column and the row that something is wrong with.
        """
        num_bad_rows = 0
        for path in self._paths:
            bad_rows = BadRows(path, skip=self._skip)
            try:
                yield from self._iter_file(path, bad_rows)
            except (pa.ArrowException, OSError, EOFError) as error:
                raise UserError(
                    f"{path} cannot be read to its end: {one_line(error).rstrip('.')}. "
                    "Is the file complete?"
                ) from error
            num_bad_rows += bad_rows.count
        self.num_bad_rows = num_bad_rows

    def _iter_file(self, path: str, bad_rows: BadRows) -> Iterator[ItemBatch]:
        extension = _extension(path)
        if extension in _PARQUET:
            return self._iter_parquet(path, bad_rows)
        file = TextFile(self._filesystem, path)
        columns = (self._column, self._group)
        if extension in _SEPARATORS:
            rows = iter_csv(file, columns, bad_rows, separator=_SEPARATORS[extension])
        else:
            rows = iter_json_lines(file, columns, bad_rows)
        return _iter_rows(rows)

    def _iter_parquet(self, path: str, bad_rows: BadRows) -> Iterator[ItemBatch]:
        with self._open_parquet(path) as file:
            num_rows = ROWS_PER_BATCH
            if self._kind == "image":
                num_rows = max(1, min(num_rows, _BYTES_PER_BATCH // num_bytes_of(self.item_type)))
            first_row = 1
            for batch in file.iter_batches(num_rows, columns=[self._column, self._group]):
                items, groups = batch.column(self._column), batch.column(self._group)
                if self._kind == "text":
                    items = items.cast(pa.string())
                elif items.type != self.item_type:
                    items = pa.ExtensionArray.from_storage(self.item_type, items.storage)
                groups = groups.cast(pa.string())
                bad = {
                    row: f"column {column!r} {reason}"
                    for column, values in ((self._group, groups), (self._column, items))
                    for row, reason in _find_bad(values).items()
                }
                if bad:
                    for row in sorted(bad):
                        bad_rows.reject(bad[row], row=first_row + row)
                    is_good = np.ones(len(batch), np.bool_)
                    is_good[list(bad)] = False
                    items, groups = (values.filter(pa.array(is_good)) for values in (items, groups))
                first_row += len(batch)
                yield ItemBatch(items, groups)

    def _open_parquet(self, path: str) -> pq.ParquetFile:
        """Opens a file whose columns are there and of types that can be read."""
        try:
            file = open_to_go_through(self._filesystem, path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is not a complete Parquet file: {one_line(error)}") from error
        schema = file.schema_arrow
        for column in (self._column, self._group):
            check_column(path, column, schema.names)
        _check_type(path, self._column, schema.field(self._column).type, self._kind)
        _check_type(path, self._group, schema.field(self._group).type, "group")
        return file

    def _image_type(self) -> pa.FixedShapeTensorType:
        """The type of the images, which must be the same in all files."""
        found = None
        for path in self._paths:
            if _extension(path) not in _PARQUET:
                raise UserError(f"Images are read from Parquet files only. Received: {path}.")
            with self._open_parquet(path) as file:
                stored = file.schema_arrow.field(self._column).type
            item_type = pa.fixed_shape_tensor(
                pa.uint8(), stored.shape, permutation=stored.permutation
            )
            if found is not None and item_type != found:
                raise UserError(
                    "All images must have one shape. Received: "
                    f"{self._paths[0]} holds {found}, {path} holds {item_type}."
                )
            found = item_type
        return found


def num_bytes_of(image_type: pa.FixedShapeTensorType) -> int:
    """Bytes of one image."""
    return image_type.storage_type.list_size


def _find_bad(values: pa.Array) -> dict[int, str]:
    """Rows of a batch's column whose values cannot be used, and why."""
    if not pa.types.is_string(values.type):
        return dict.fromkeys(pc.indices_nonzero(values.is_null()).to_pylist(), "is null")
    is_encoded = is_utf8(values)
    bad = dict.fromkeys(np.flatnonzero(~is_encoded).tolist(), "is not UTF-8")
    if bad:
        values = pc.if_else(pa.array(is_encoded), values, "replaced")
    length = pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(values, "")))
    is_missing = pc.equal(length, 0)
    return bad | dict.fromkeys(pc.indices_nonzero(is_missing).to_pylist(), "is null or empty")


def _check_type(path: str, column: str, found: pa.DataType, wanted: str) -> None:
    """Raises UserError unless a Parquet column can be read as what is wanted of it."""
    value = found.value_type if pa.types.is_dictionary(found) else found
    if wanted == "image":
        holds = isinstance(found, pa.FixedShapeTensorType) and pa.types.is_uint8(found.value_type)
        rule = "an image column must be a fixed_shape_tensor of uint8"
    elif wanted == "text":
        holds, rule = is_text(found), "a text column must be of strings"
    else:
        holds, rule = (
            is_text(found) or pa.types.is_integer(value),
            "a group column must be of strings or integers",
        )
    if not holds:
        raise UserError(f"{path}, column {column!r}: {rule}. Received: {found}.")


def _find_files(path: str) -> tuple[fs.FileSystem, list[str]]:
    """The filesystem and the item files that `path` names, in order of name."""
    try:
        filesystem, root = (
            fs.FileSystem.from_uri(path) if "://" in path else (fs.LocalFileSystem(), path)
        )
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.Directory:
            inside = filesystem.get_file_info(fs.FileSelector(root))
            paths = sorted(x.path for x in inside if x.is_file and _is_known(x.path))
        else:
            paths = [root] if info.is_file else []
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"The items cannot be reached. Received: items={hide_secrets(path)!r}. "
            f"{hide_secrets(one_line(error))}"
        ) from error
    if not paths:
        raise UserError(
            "There is no such file, and no folder of item files. "
            f"Received: items={hide_secrets(path)!r}."
        )
    for found in paths:
        if not _is_known(found):
            known = ", ".join((*_SEPARATORS, *_JSON_LINES, *_PARQUET))
            raise UserError(f"Items are read from {known} files. Received: items={found!r}.")
    return filesystem, paths


def _extension(path: str) -> str:
    """The extension that says the format, in lower case: `.csv` for `a.CSV.gz`."""
    name = path.rsplit("/", 1)[-1].lower()
    for extension in _COMPRESSED:
        name = name.removesuffix(extension)
    return "." + name.rsplit(".", 1)[-1] if "." in name else ""


def _is_known(path: str) -> bool:
    return _extension(path) in (*_SEPARATORS, *_JSON_LINES, *_PARQUET)


def _iter_rows(rows: Iterator[tuple[str, str]]) -> Iterator[ItemBatch]:
    """Puts rows of (text, group) together to batches."""
    texts: list[str] = []
    groups: list[str] = []
    num_characters = 0
    for text, group in rows:
        texts.append(text)
        groups.append(group)
        num_characters += len(text)
        if len(texts) == ROWS_PER_BATCH or num_characters >= _CHARACTERS_PER_BATCH:
            yield ItemBatch(pa.array(texts, pa.string()), pa.array(groups, pa.string()))
            texts, groups, num_characters = [], [], 0
    if texts:
        yield ItemBatch(pa.array(texts, pa.string()), pa.array(groups, pa.string()))
