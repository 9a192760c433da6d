"""Items and their groups, row group by row group, from the files of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.damage import DamageError, OpenFile, read_file
from sharedlayers_dist.data.files import check_column, find_files, read_parquet_metadata
from sharedlayers_dist.data.items.codec import ItemCodec
from sharedlayers_dist.data.items.column import TYPES_OF_ITEMS, ItemColumn, is_text
from sharedlayers_dist.data.items.texts import TextCodec
from sharedlayers_dist.data.reading.row_groups import Reasons
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.bounded_reads import read_bounded
from sharedlayers_dist.storage.uri import hide_secrets

T = TypeVar("T")
ITEM, GROUP = "item", "group"
"""The columns of the tables that are read."""
_PAIR_COLUMNS = {"a", "b", "group_a", "group_b"}


def describe_items(uri: str, item: str) -> ItemColumn:
    """What the items of a folder or file of Parquet are; reads one footer.

    Args:
        uri: A folder or file, as of a pair dataset.
        item: The column of the items; a pair dataset without it has its items in `a` and `b`.

    Raises:
        UserError: where there is no such column, or one that holds no items.
        StorageError: where the storage fails.
        ReadTimeoutError: for a footer that does not come.
    """
    filesystem, files = find_files(uri)
    path = files[0].path
    schema = _read_footer(filesystem, path).schema.to_arrow_schema()
    if item not in schema.names and set(schema.names) >= _PAIR_COLUMNS:
        item = "a"
    elif item not in schema.names and set(schema.names) >= {"a", "b"}:
        raise UserError(
            "Items of pairs are known by whose they are. Received: "
            f"{path}, pairs without the columns group_a and group_b. `sharedlayers pairs` writes "
            "them; or name a column of items and one of their groups."
        )
    check_column(path, item, schema.names)
    column = ItemColumn.of(schema.field(item).type)
    if column is None:
        raise UserError(
            f"Items must be {TYPES_OF_ITEMS}. Received: column {item!r} of type "
            f"{schema.field(item).type} in {hide_secrets(uri)}."
        )
    return column


class ItemColumns(NamedTuple):
    """What is read of each file."""

    item: str
    group: str
    held: ItemColumn
    """What the column of the items holds in the first file."""
    codec: ItemCodec

    def sides(self, names: list[str]) -> list[tuple[str, str]]:
        """The columns of items, each with that of their groups, among those of a file."""
        if self.item not in names and set(names) >= _PAIR_COLUMNS:
            return [("a", "group_a"), ("b", "group_b")]
        return [(self.item, self.group)]

    def are_of_pairs(self, filesystem: fs.FileSystem, path: str) -> bool:
        """Whether a file holds pairs."""
        # Parquet's own schema names the leaves: "element" where a column holds lists.
        schema = _read_footer(filesystem, path).schema.to_arrow_schema()
        return len(self.sides(schema.names)) == 2


def without_repeats(table: pa.Table, codec: ItemCodec) -> pa.Table:
    """Each item of a group once, where it is first."""
    keys = content_keys(codec.read(table[ITEM]), exact=True)
    groups = table[GROUP].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(np.stack([keys, groups.astype(np.uint64)]), axis=1, return_index=True)
    return table.take(pa.array(np.sort(first)))


def iter_items(
    filesystem: fs.FileSystem, path: str, columns: ItemColumns
) -> Iterator[tuple[pa.Table, int, str]]:
    """Items and groups of each row group without its bad rows, how many these are, and the first.

    Of a row group that is corrupt all rows are bad. The first table has none, for the schema.
    """
    footer = _read_footer(filesystem, path)
    schema = footer.schema.to_arrow_schema()
    for names in columns.sides(schema.names):
        for name in names:
            check_column(path, name, schema.names)
        found = ItemColumn.of(schema.field(names[0]).type)
        if found != columns.held:
            raise UserError(
                f"All files of items must hold the same. Received: column {names[0]!r} with "
                f"{found or 'no items'} in {path}, with {columns.held} in the first file."
            )
        empty = pa.Table.from_batches([], schema).select(list(names))
        yield empty.rename_columns([ITEM, GROUP]), 0, ""
        for number in range(footer.num_row_groups):
            place = f"{path}, row group {number}"
            try:
                table = _read_bounded(
                    filesystem, path, partial(_read_row_group, footer, number, list(names)), place
                )
            except DamageError as e:
                num_bad, problem = footer.row_group(number).num_rows, f"cannot be read: {e}"
                yield empty.rename_columns([ITEM, GROUP]), num_bad, f"{place} {problem}"
                continue
            reasons = _find_bad(table, names, columns.codec)
            problem = ""
            if reasons.is_bad.any():
                row, reason = reasons.first()
                problem = f"{place}, row {row}: {reason}"
                table = table.filter(pa.array(~reasons.is_bad))
            num_bad = int(np.count_nonzero(reasons.is_bad))
            yield table.rename_columns([ITEM, GROUP]), num_bad, problem


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


def _find_bad(table: pa.Table, names: tuple[str, str], codec: ItemCodec) -> Reasons:
    """The bad rows: all of them, since no row is told from another once it is in memory."""
    reasons = Reasons(table.num_rows)
    item, group = names
    for name in names:
        reasons.add(f"column {name!r} is null", table[name].is_null().to_numpy())
    reasons.add_items(item, codec.find_bad(codec.read(table[item]), thoroughly=True))
    if is_text(table[group].type):
        texts = TextCodec(length=0, alphabet_size=0)
        reasons.add_items(group, texts.find_bad(texts.read(table[group])))
    return reasons
