"""Items in memory, with the group of each: what pairs are made of on the fly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.damage import DamageError, OnBadRow, OpenFile, read_file
from sharedlayers_dist.data.files import check_column, find_files, read_parquet_metadata
from sharedlayers_dist.data.items.choosing import choose_plain_codec
from sharedlayers_dist.data.items.codec import ItemCodec, Items
from sharedlayers_dist.data.items.column import TYPES_OF_ITEMS, ItemColumn, is_text
from sharedlayers_dist.data.items.texts import TextCodec
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.row_groups import Reasons, bad_row_error
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
    column: ItemColumn
    """What the items are."""
    codec: ItemCodec
    """What they were read and checked with."""
    items: Items
    """The items as their codec holds them."""
    group_of_item: Rows
    """Number of each item's group, from 0, shape `(items,)`."""
    num_bad_rows: int = 0
    """Rows that were left out."""
    problems: tuple[str, ...] = ()
    """The first bad row of each row group that has some: where it lies and what is wrong."""

    @property
    def a(self) -> ItemColumn:
        """What the items of the one side are."""
        return self.column

    @property
    def b(self) -> ItemColumn:
        """What the items of the other side are: the same."""
        return self.column

    @property
    def kind(self) -> str:
        """What the pairs are of."""
        return self.column.kind

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the items and their groups in their order."""
        column = self.column
        digest = hashlib.sha256(repr((column.kind, column.shape, column.dtype)).encode())
        digest.update(self.group_of_item.tobytes())
        digest.update(content_keys(self.items, exact=True).tobytes())
        return digest.hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        """Says how to read the items again."""
        columns = (self.uri, self.item, self.group)
        return _read_again, (*columns, self.on_bad_row, self.codec, self.fingerprint)


def _read_again(
    uri: str, item: str, group: str, on_bad_row: OnBadRow, codec: ItemCodec, fingerprint: str
) -> GroupedItems:
    """Reads the items that another process has read.

    Raises:
        UserError: where they are others.
    """
    items = read_items(uri, item=item, group=group, on_bad_row=on_bad_row, codec=codec)
    if items.fingerprint != fingerprint:
        raise UserError(
            "All ranks must read the same items. Received: the fingerprint "
            f"{items.fingerprint} of {hide_secrets(uri)} here, {fingerprint} on rank 0. Give all "
            "hosts the same files, and leave them alone while a run begins."
        )
    return items


def describe_items(uri: str, item: str) -> ItemColumn:
    """What the column `item` of a folder or file of Parquet holds; reads one footer.

    Raises:
        UserError: where there is no such column, or one that holds no items.
        StorageError: where the storage fails.
        ReadTimeoutError: for a footer that does not come.
    """
    filesystem, files = find_files(uri)
    path = files[0].path
    schema = _read_footer(filesystem, path).schema.to_arrow_schema()
    check_column(path, item, schema.names)
    column = ItemColumn.of(schema.field(item).type)
    if column is None:
        raise UserError(
            f"Items must be {TYPES_OF_ITEMS}. Received: column {item!r} of type "
            f"{schema.field(item).type} in {hide_secrets(uri)}."
        )
    return column


def read_items(
    uri: str,
    *,
    item: str,
    group: str,
    on_bad_row: OnBadRow = "error",
    codec: ItemCodec | None = None,
) -> GroupedItems:
    """Reads the items of a folder or file of Parquet into memory.

    Args:
        uri: A folder or file, as of a pair dataset.
        item: The column of the items.
        group: The column that says whose item it is, of any type that can be compared.
        on_bad_row: `error`, or `skip` to leave out a row with a null or an item that its codec
            cannot use.
        codec: How the items are read, and which are bad; by default as their column says.

    Raises:
        UserError: in one line that names the file, and the row group and row where one is to
            blame: for files that cannot be read, columns that are missing or differ between
            files, or a bad row that is not skipped.
        StorageError: where the storage fails.
        ReadTimeoutError: for a row group that does not come.
    """
    column = describe_items(uri, item)
    codec = choose_plain_codec(column) if codec is None else codec
    columns = _Columns(item, group, column, codec)
    filesystem, files = find_files(uri)
    tables: list[pa.Table] = []
    problems: list[str] = []
    num_bad_rows = 0
    for file in files:
        for table, num_bad, problem in _iter_row_groups(filesystem, file.path, columns):
            if problem and on_bad_row == "error":
                raise bad_row_error(problem)
            tables.append(table)
            num_bad_rows += num_bad
            problems += [problem] if problem else []
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as e:
        raise UserError(f"The files of {hide_secrets(uri)} differ: {one_line(e)}") from e
    codes = table[group].combine_chunks().dictionary_encode()
    return GroupedItems(
        uri=uri,
        item=item,
        group=group,
        on_bad_row=on_bad_row,
        column=column,
        codec=codec,
        items=codec.read(table[item]),
        group_of_item=codes.indices.to_numpy().astype(np.int64),
        num_bad_rows=num_bad_rows,
        problems=tuple(problems),
    )


class _Columns(NamedTuple):
    """What is read of each file."""

    item: str
    group: str
    held: ItemColumn
    """What the column of the items holds in the first file."""
    codec: ItemCodec


def _iter_row_groups(
    filesystem: fs.FileSystem, path: str, columns: _Columns
) -> Iterator[tuple[pa.Table, int, str]]:
    """Two columns of each row group without its bad rows, how many these are, and the first.

    Of a row group that is corrupt all rows are bad. The first table has none, for the schema.
    """
    footer = _read_footer(filesystem, path)
    schema = footer.schema.to_arrow_schema()
    names = [columns.item, columns.group]
    for name in names:
        check_column(path, name, schema.names)
    found = ItemColumn.of(schema.field(columns.item).type)
    if found != columns.held:
        raise UserError(
            f"All files of items must hold the same. Received: column {columns.item!r} with "
            f"{found or 'no items'} in {path}, with {columns.held} in the first file."
        )
    empty = pa.Table.from_batches([], schema).select(names)
    yield empty, 0, ""
    for number in range(footer.num_row_groups):
        place = f"{path}, row group {number}"
        try:
            table = _read_bounded(
                filesystem, path, partial(_read_row_group, footer, number, names), place
            )
        except DamageError as e:
            yield empty, footer.row_group(number).num_rows, f"{place} cannot be read: {e}"
            continue
        reasons = _find_bad(table, columns)
        problem = ""
        if reasons.is_bad.any():
            row, reason = reasons.first()
            problem = f"{place}, row {row}: {reason}"
            table = table.filter(pa.array(~reasons.is_bad))
        yield table, int(np.count_nonzero(reasons.is_bad)), problem


def _read_footer(filesystem: fs.FileSystem, path: str) -> pq.FileMetaData:
    try:
        return _read_bounded(filesystem, path, read_parquet_metadata, path)
    except DamageError as e:
        raise UserError(f"{path} cannot be read: {e}. Write it anew.") from e


def _read_row_group(
    footer: pq.FileMetaData, number: int, columns: list[str], open_file: OpenFile
) -> pa.Table:
    with open_file() as source:
        parquet = pq.ParquetFile(source, metadata=footer)
        return parquet.read_row_group(number, columns).select(columns)


def _read_bounded(
    filesystem: fs.FileSystem, path: str, read_part: Callable[[OpenFile], T], place: str
) -> T:
    return read_bounded(partial(read_file, filesystem, path, read_part, place=place), what=place)


def _find_bad(table: pa.Table, columns: _Columns) -> Reasons:
    """The bad rows: all of them, since no row is told from another once it is in memory."""
    reasons = Reasons(table.num_rows)
    item, group, _, codec = columns
    for name in (item, group):
        reasons.add(f"column {name!r} is null", table[name].is_null().to_numpy())
    reasons.add_items(item, codec.find_bad(codec.read(table[item]), thoroughly=True))
    if is_text(table[group].type):
        texts = TextCodec(length=0, alphabet_size=0)
        reasons.add_items(group, texts.find_bad(texts.read(table[group])))
    return reasons
