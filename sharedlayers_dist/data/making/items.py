"""Labelled items to make pairs of: read batch by batch from files, or held in memory.

A source can be read several times and gives the same items in the same order each time; no more
than one batch of them is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa

from sharedlayers_dist.data.files import PARQUET, find_files
from sharedlayers_dist.data.making.bad_rows import BadRows
from sharedlayers_dist.data.making.item_types import ItemForm
from sharedlayers_dist.data.making.parquet_files import (
    ItemBatch,
    ItemColumns,
    find_form,
    iter_parquet,
)
from sharedlayers_dist.data.making.text_files import CODECS, iter_csv, iter_json_lines
from sharedlayers_dist.errors import UserError

ROWS_PER_BATCH = 16_384
_CHARACTERS_PER_BATCH = 16 << 20
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
_TEXT = (*_SEPARATORS, *_JSON_LINES)
_ENDINGS = (*_TEXT, *PARQUET, *(text + packed for text in _TEXT for packed in CODECS))


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
    """Items that are in memory already.

    Example:
        >>> source = ArrayItems(pa.array(["hello", "hi"]), pa.array(["ann", "bob"]))
        >>> [len(batch.items) for batch in source.iter_batches()]
        [2]
    """

    items: pa.Array
    """Texts (`string`), images (`fixed_shape_tensor`, or files as `binary`), ids of tokens (`list`
    of integers) or vectors (`fixed_size_list` of floats), without nulls."""
    groups: pa.Array
    """`string`, whose item each is, without nulls."""
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
        path: a local path or a URI that pyarrow knows; text files may be compressed. Of a folder
            all files are read that `data.files` finds.
        column: the column with the items.
        group: the column that says whose item it is; integers are taken as their digits.
        kind: what the items must be: texts, images, or whatever the column holds. Text files hold
            texts alone.
        on_bad_row: stop at a row that has no item or no group or cannot be read, or leave it out.

    Raises:
        UserError: when there is no such file, its format is unknown, or a column is missing or
            of another type.

    Example:
        >>> with open("items.jsonl", "w") as file:
        ...     print('{"text": "hello", "who": "ann"}', file=file)
        ...     print('{"text": "", "who": "bob"}', file=file)
        >>> source = FileItems("items.jsonl", column="text", group="who", on_bad_row="skip")
        >>> [batch.items.to_pylist() for batch in source.iter_batches()], source.num_bad_rows
        ([['hello']], 1)
    """

    def __init__(
        self,
        path: str,
        *,
        column: str,
        group: str,
        kind: Literal["text", "image", "any"] = "text",
        on_bad_row: Literal["error", "skip"] = "error",
    ):
        self._columns = ItemColumns(column, group, kind)
        self._skip = on_bad_row == "skip"
        self._filesystem, self._files = find_files(
            path,
            endings=_ENDINGS,
            what="file of items",
            remedy="Where it is a folder of image folders, name no columns.",
        )
        for file in self._files:  # A single one may have any name and size.
            if not file.name.lower().endswith(_ENDINGS):
                raise UserError(
                    f"Items are read from {', '.join((*_TEXT, *PARQUET))} files. "
                    f"Received: items={file.path!r}."
                )
            if not file.size:
                raise UserError(f"{file.path} is empty. Write it anew, or remove it.")
        self.num_bad_rows = 0
        self._form = self._find_form()
        self._bad_rows_of: dict[str, np.ndarray] = {}
        """Of files of images, once all have been decoded, the numbers of the bad rows by path."""

    @property
    def item_type(self) -> pa.DataType:
        """Arrow type of the items."""
        return self._form.item_type

    def _find_form(self) -> ItemForm:
        """What becomes of the items, from the footers of Parquet files."""
        kind = self._columns.kind
        of_text = [file for file in self._files if not file.name.lower().endswith(PARQUET)]
        if kind == "image" and of_text:
            raise UserError(
                f"Images are read from Parquet files only. Received: {of_text[0].path}."
            )
        if kind == "text" or len(of_text) == len(self._files):
            return ItemForm.of(pa.string())
        parquet = [file for file in self._files if file not in of_text]
        form = find_form(self._filesystem, parquet, self._columns)
        if of_text and not pa.types.is_string(form.item_type):
            raise UserError(
                "All files of items must hold the same. Received: "
                f"{of_text[0].path} holds texts, {parquet[0].path} holds {form.item_type}."
            )
        return form

    def iter_batches(self) -> Iterator[ItemBatch]:
        """Goes through the files' rows, file by file.

        Raises:
            UserError: names the file, the column and the row that something is wrong with.
        """
        num_bad_rows = 0
        found: dict[str, np.ndarray] = {}
        for file in self._files:
            bad_rows = BadRows(self._filesystem, file.path, skip=self._skip)
            yield from self._iter_file(bad_rows)
            num_bad_rows += bad_rows.count
            if pa.types.is_binary(self.item_type):  # Decoding takes longest, and once is enough.
                found[file.path] = np.array(bad_rows.rows, np.int64)
        self._bad_rows_of = found
        self.num_bad_rows = num_bad_rows

    def _iter_file(self, bad_rows: BadRows) -> Iterator[ItemBatch]:
        name = bad_rows.path.lower()
        if name.endswith(PARQUET):
            return iter_parquet(
                self._columns,
                self._form,
                bad_rows,
                rows_per_batch=ROWS_PER_BATCH,
                known=self._bad_rows_of.get(bad_rows.path),
            )
        for ending in CODECS:
            name = name.removesuffix(ending)
        columns = (self._columns.item, self._columns.group)
        if name.endswith(_JSON_LINES):
            return _iter_rows(iter_json_lines(columns, bad_rows))
        separator = _SEPARATORS[name[-4:]]
        return _iter_rows(iter_csv(columns, bad_rows, separator=separator))


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
