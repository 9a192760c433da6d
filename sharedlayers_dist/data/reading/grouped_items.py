"""Items in memory, with the group of each: what batches of groups are made of.

They come from a column of items and one of groups; or from a pair dataset that says whose item each
is, whose distinct items these are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.damage import OnBadRow
from sharedlayers_dist.data.files import find_files
from sharedlayers_dist.data.items.choosing import choose_plain_codec
from sharedlayers_dist.data.items.codec import ItemCodec, Items
from sharedlayers_dist.data.items.column import ItemColumn
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.item_files import (
    GROUP,
    ITEM,
    ItemColumns,
    describe_items,
    iter_items,
    without_repeats,
)
from sharedlayers_dist.data.reading.row_groups import bad_row_error
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.uri import hide_secrets


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

    @cached_property
    def key_of_item(self) -> NDArray[np.int64]:
        """The `content_keys` of the items: the same for those that count as equal."""
        return content_keys(self.items).view(np.int64)

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
        item: The column of the items; where there is none, but the columns `a`, `group_a`, `b` and
            `group_b`, the items of both sides are taken, each once for a group.
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
    columns = ItemColumns(item, group, column, codec)
    filesystem, files = find_files(uri)
    tables: list[pa.Table] = []
    problems: list[str] = []
    num_bad_rows = 0
    for file in files:
        for table, num_bad, problem in iter_items(filesystem, file.path, columns):
            if problem and on_bad_row == "error":
                raise bad_row_error(problem)
            tables.append(table)
            num_bad_rows += num_bad
            problems += [problem] if problem else []
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as e:
        raise UserError(f"The files of {hide_secrets(uri)} differ: {one_line(e)}") from e
    if columns.are_of_pairs(filesystem, files[0].path):
        table = without_repeats(table, codec)
    codes = table[GROUP].combine_chunks().dictionary_encode()
    return GroupedItems(
        uri=uri,
        item=item,
        group=group,
        on_bad_row=on_bad_row,
        column=column,
        codec=codec,
        items=codec.read(table[ITEM]),
        group_of_item=codes.indices.to_numpy().astype(np.int64),
        num_bad_rows=num_bad_rows,
        problems=tuple(problems),
    )
