"""Items in memory, with the group of each: what pairs are made of on the fly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.damage import DamageError, OnBadRow, OpenFile, read_file
from sharedlayers_dist.data.files import check_column, find_files, read_parquet_metadata
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.row_groups import (
    Reasons,
    read_images,
    read_texts,
)
from sharedlayers_dist.data.schema import Kind, is_text
from sharedlayers_dist.data.text import is_utf8
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.bounded_reads import read_bounded
from sharedlayers_dist.storage.uri import hide_secrets

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedItems:
    """Items in memory, and the group of each; make it with `read_items`.

    Pickled, it is the place of the items and not the items, which may be more than can be sent:
    whoever unpickles it reads them, and refuses others than those that were read first.
    """

    uri: str
    item: str
    """The column of the items."""
    group: str
    """The column of the groups."""
    on_bad_row: OnBadRow = "error"
    items: pa.Array | NDArray
    """Texts as a `large_string` array, or images, shape `(items, height, width, channels)`."""
    group_of_item: Rows
    """Number of each item's group, from 0, shape `(items,)`."""
    num_bad_rows: int = 0
    """Rows that were left out."""
    problems: tuple[str, ...] = ()
    """The first bad row of each row group that has some: where it lies and what is wrong."""

    @property
    def kind(self) -> Kind:
        """Text or image."""
        return "text" if isinstance(self.items, pa.Array) else "image"

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item; `()` for text."""
        return () if isinstance(self.items, pa.Array) else self.items.shape[1:]

    @property
    def item_dtype(self) -> str:
        """NumPy's name of an image's numbers; `str` for text."""
        return "str" if isinstance(self.items, pa.Array) else self.items.dtype.name

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the items and their groups in their order."""
        digest = hashlib.sha256(repr((self.kind, self.item_shape, self.item_dtype)).encode())
        digest.update(self.group_of_item.tobytes())
        digest.update(content_keys(self.items, exact=True).tobytes())
        return digest.hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        """Says how to read the items again."""
        return _read_again, (self.uri, self.item, self.group, self.on_bad_row, self.fingerprint)


def _read_again(
    uri: str, item: str, group: str, on_bad_row: OnBadRow, fingerprint: str
) -> GroupedItems:
    """Reads the items that another process has read.

    Raises:
        UserError: where they are others.
    """
    items = read_items(uri, item=item, group=group, on_bad_row=on_bad_row)
    if items.fingerprint != fingerprint:
        raise UserError(
            "All ranks must read the same items. Received: the fingerprint "
            f"{items.fingerprint} of {hide_secrets(uri)} here, {fingerprint} on rank 0. Give all "
            "hosts the same files, and leave them alone while a run begins."
        )
    return items


def read_items(uri: str, *, item: str, group: str, on_bad_row: OnBadRow = "error") -> GroupedItems:
    """Reads the items of a folder or file of Parquet into memory.

    Args:
        uri: A folder or file, as of a pair dataset.
        item: The column of texts (string) or images (fixed_shape_tensor).
        group: The column that says whose item it is, of any type that can be compared.
        on_bad_row: `error`, or `skip` to leave out a row with a null or a text that is not UTF-8.

    Raises:
        UserError: in one line that names the file, and the row group and row where one is to
            blame: for files that cannot be read, columns that are missing or differ between
            files, or a bad row that is not skipped.
        StorageError: where the storage fails.
        ReadTimeoutError: for a row group that does not come.
    """
    filesystem, files = find_files(uri)
    tables: list[pa.Table] = []
    problems: list[str] = []
    num_bad_rows = 0
    for file in files:
        for table, num_bad, problem in _iter_row_groups(filesystem, file.path, (item, group)):
            if problem and on_bad_row == "error":
                raise UserError(
                    f"{problem}. Correct it, or leave such rows out with --on-bad-row skip."
                )
            tables.append(table)
            num_bad_rows += num_bad
            problems += [problem] if problem else []
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as e:
        raise UserError(f"The files of {hide_secrets(uri)} differ: {one_line(e)}") from e
    column = table[item]
    if not (is_text(column.type) or isinstance(column.type, pa.FixedShapeTensorType)):
        raise UserError(
            f"Items must be text (string) or images (fixed_shape_tensor). Received: column "
            f"{item!r} of type {column.type} in {hide_secrets(uri)}."
        )
    codes = table[group].combine_chunks().dictionary_encode()
    return GroupedItems(
        uri=uri,
        item=item,
        group=group,
        on_bad_row=on_bad_row,
        items=read_texts(column) if is_text(column.type) else read_images(column),
        group_of_item=codes.indices.to_numpy().astype(np.int64),
        num_bad_rows=num_bad_rows,
        problems=tuple(problems),
    )


def _iter_row_groups(
    filesystem: fs.FileSystem, path: str, columns: tuple[str, str]
) -> Iterator[tuple[pa.Table, int, str]]:
    """Two columns of each row group without its bad rows, how many these are, and the first.

    Of a row group that is corrupt all rows are bad. The first table has none, for the schema.
    """

    def read(read_part: Callable[[OpenFile], T], place: str) -> T:
        return read_bounded(
            partial(read_file, filesystem, path, read_part, place=place), what=place
        )

    try:
        footer = read(read_parquet_metadata, path)
    except DamageError as e:
        raise UserError(f"{path} cannot be read: {e}. Write it anew.") from e
    schema = footer.schema.to_arrow_schema()
    for column in columns:
        check_column(path, column, schema.names)
    empty = pa.Table.from_batches([], schema).select(columns)
    yield empty, 0, ""
    for number in range(footer.num_row_groups):
        place = f"{path}, row group {number}"
        try:
            table = read(partial(_read_row_group, footer, number, columns), place)
        except DamageError as e:
            yield empty, footer.row_group(number).num_rows, f"{place} cannot be read: {e}"
            continue
        reasons = _find_bad(table)
        problem = ""
        if reasons.is_bad.any():
            row, reason = reasons.first()
            problem = f"{place}, row {row}: {reason}"
            table = table.filter(pa.array(~reasons.is_bad))
        yield table, int(np.count_nonzero(reasons.is_bad)), problem


def _read_row_group(
    footer: pq.FileMetaData, number: int, columns: tuple[str, str], open_file: OpenFile
) -> pa.Table:
    with open_file() as source:
        parquet = pq.ParquetFile(source, metadata=footer)
        return parquet.read_row_group(number, list(columns)).select(columns)


def _find_bad(table: pa.Table) -> Reasons:
    reasons = Reasons(table.num_rows)
    for name in table.column_names:
        column = table[name]
        reasons.add(f"column {name!r} is null", column.is_null().to_numpy())
        if is_text(column.type):
            reasons.add(f"column {name!r} is not UTF-8", ~is_utf8(read_texts(column)))
    return reasons
