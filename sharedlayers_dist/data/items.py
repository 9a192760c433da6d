"""Labelled items to make pairs of: read batch by batch from files, or held in memory.

A source can be read several times and gives the same items in the same order each time; no more
than one batch of them is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.files import hide_secrets, one_line
from sharedlayers_dist.data.item_files import BadRows, TextFile, iter_csv, iter_json_lines

ROWS_PER_BATCH = 65_536
_BYTES_PER_BATCH = 64 << 20
_COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_PARQUET = (".parquet", ".pq")


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
        ValueError: when there is no such file, its format is unknown, or a column is missing or
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
            ValueError: names the file, the column and the row that something is wrong with.
        """
        num_bad_rows = 0
        for path in self._paths:
            bad_rows = BadRows(path, skip=self._skip)
            try:
                yield from self._iter_file(path, bad_rows)
            except (pa.ArrowInvalid, OSError, EOFError) as error:
                raise ValueError(
                    f"{path} cannot be read to its end: {error} Is the file complete?"
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
            batches = file.iter_batches(num_rows, columns=[self._column, self._group])
            for batch in batches:
                items, groups = batch.column(self._column), batch.column(self._group)
                if self._kind == "text":
                    items = items.cast(pa.string())
                elif items.type != self.item_type:
                    items = pa.ExtensionArray.from_storage(self.item_type, items.storage)
                groups = groups.cast(pa.string())
                is_bad = pc.or_(_is_missing(items), _is_missing(groups))
                if pc.any(is_bad).as_py():
                    for index in pc.indices_nonzero(is_bad).to_pylist():
                        which = self._group if items[index].is_valid else self._column
                        bad_rows.reject(f"column {which!r} is null or empty", row=first_row + index)
                    items, groups = (x.filter(pc.invert(is_bad)) for x in (items, groups))
                first_row += len(batch)
                yield ItemBatch(items, groups)

    def _open_parquet(self, path: str) -> pq.ParquetFile:
        """Opens a file whose columns are there and of types that can be read."""
        try:
            file = pq.ParquetFile(self._filesystem.open_input_file(path))
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path} is not a complete Parquet file: {error}") from error
        schema = file.schema_arrow
        for column in (self._column, self._group):
            if column not in schema.names:
                raise ValueError(
                    f"{path} has no column {column!r}. Its columns: {', '.join(schema.names)}."
                )
        _check_type(path, self._column, schema.field(self._column).type, self._kind)
        _check_type(path, self._group, schema.field(self._group).type, "group")
        return file

    def _image_type(self) -> pa.FixedShapeTensorType:
        """The type of the images, which must be the same in all files."""
        found = None
        for path in self._paths:
            if _extension(path) not in _PARQUET:
                raise ValueError(f"Images are read from Parquet files only. Received: {path}.")
            with self._open_parquet(path) as file:
                stored = file.schema_arrow.field(self._column).type
            if found is not None and stored.shape != found.shape:
                raise ValueError(
                    "All images must have one shape. Received: "
                    f"{self._paths[0]} holds {found.shape}, {path} holds {stored.shape}."
                )
            found = pa.fixed_shape_tensor(pa.uint8(), stored.shape)
        return found


def num_bytes_of(image_type: pa.FixedShapeTensorType) -> int:
    """Bytes of one image."""
    return image_type.storage_type.list_size


def _is_missing(values: pa.Array) -> pa.Array:
    """Whether each value is null, or a text of nothing but spaces."""
    if pa.types.is_string(values.type):
        return pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(values, ""))), 0)
    return values.is_null()


def _check_type(path: str, column: str, found: pa.DataType, wanted: str) -> None:
    """Raises ValueError unless a Parquet column can be read as what is wanted of it."""
    value = found.value_type if pa.types.is_dictionary(found) else found
    is_text = pa.types.is_string(value) or pa.types.is_large_string(value)
    if wanted == "image":
        holds = isinstance(found, pa.FixedShapeTensorType) and pa.types.is_uint8(found.value_type)
        rule = "an image column must be a fixed_shape_tensor of uint8"
    elif wanted == "text":
        holds, rule = is_text, "a text column must be of strings"
    else:
        holds, rule = (
            is_text or pa.types.is_integer(value),
            "a group column must be of strings or integers",
        )
    if not holds:
        raise ValueError(f"{path}, column {column!r}: {rule}. Received: {found}.")


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
        raise ValueError(
            f"The items cannot be reached. Received: items={hide_secrets(path)!r}. "
            f"{hide_secrets(one_line(error))}"
        ) from error
    if not paths:
        raise ValueError(
            "There is no such file, and no folder of item files. "
            f"Received: items={hide_secrets(path)!r}."
        )
    for found in paths:
        if not _is_known(found):
            known = ", ".join((*_SEPARATORS, *_JSON_LINES, *_PARQUET))
            raise ValueError(f"Items are read from {known} files. Received: items={found!r}.")
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
    for text, group in rows:
        texts.append(text)
        groups.append(group)
        if len(texts) == ROWS_PER_BATCH:
            yield ItemBatch(pa.array(texts, pa.string()), pa.array(groups, pa.string()))
            texts, groups = [], []
    if texts:
        yield ItemBatch(pa.array(texts, pa.string()), pa.array(groups, pa.string()))
