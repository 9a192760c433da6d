"""Items and their groups, part by part, from the files of a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.damage import DamageError, OpenFile, read_file
from sharedlayers_dist.data.files import check_column, find_files, read_parquet_metadata
from sharedlayers_dist.data.items.codec import ItemCodec, Items
from sharedlayers_dist.data.items.column import TYPES_OF_ITEMS, ItemColumn, is_text
from sharedlayers_dist.data.items.texts import TextCodec
from sharedlayers_dist.data.reading.row_groups import Reasons
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.bounded_reads import read_bounded
from sharedlayers_dist.storage.uri import hide_secrets

T = TypeVar("T")
_FOOTERS_KEPT = 256
_PAIR_COLUMNS = {"a", "b", "group_a", "group_b"}
_PAIR_SIDES = (("a", "group_a"), ("b", "group_b"))


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


class ItemPart(NamedTuple):
    """The items of one column of one row group."""

    path: str
    row_group: int
    item: str
    """The column of the items."""
    group: str
    """The column of their groups."""

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return f"{self.path}, row group {self.row_group}"


@dataclass(frozen=True, kw_only=True, eq=False)
class PartItems:
    """The items of a part without the bad ones."""

    items: Items
    """As their codec holds them."""
    groups: pa.DictionaryArray
    """The group of each."""
    num_bad: int
    problem: str
    """Of the first bad row: where it lies and what is wrong with it; empty without any."""

    @cached_property
    def exact_keys(self) -> NDArray[np.uint64]:
        """A number for each item's content, letter by letter."""
        return content_keys(self.items, exact=True)

    @property
    def digest(self) -> str:
        """A hash of the items and their groups in their order."""
        groups = (self.groups.dictionary.to_pylist(), self.groups.indices.to_pylist())
        digest = hashlib.blake2b(repr(groups).encode(), digest_size=16)
        digest.update(self.exact_keys.tobytes())
        return digest.hexdigest()


class ItemFiles:
    """Reads the items of a dataset part by part.

    Args:
        uri: A folder or file of Parquet.
        codec: How items are read, and which are bad.

    Raises:
        UserError: where there is no such dataset.
        StorageError: where the storage fails.
    """

    def __init__(self, uri: str, codec: ItemCodec) -> None:
        self._filesystem, files = find_files(uri)
        self._paths = [file.path for file in files]
        self._codec = codec
        self._read_footer = lru_cache(_FOOTERS_KEPT)(partial(_read_footer, self._filesystem))

    def find_parts(self, item: str, group: str, column: ItemColumn) -> list[ItemPart]:
        """The parts of all files: of each, those of its first column before those of its second.

        Args:
            item: The column of the items; a file of pairs without it has its items in `a` and `b`.
            group: The column of their groups.
            column: What the items of the first file are.

        Raises:
            UserError: for a file without these columns, or with items of another kind.
            StorageError: where the storage fails.
            ReadTimeoutError: for a footer that does not come.
        """
        parts = []
        for path in self._paths:
            footer = self._read_footer(path)
            # Parquet's own schema names the leaves: "element" where a column holds lists.
            schema = footer.schema.to_arrow_schema()
            are_pairs = item not in schema.names and set(schema.names) >= _PAIR_COLUMNS
            for names in _PAIR_SIDES if are_pairs else ((item, group),):
                for name in names:
                    check_column(path, name, schema.names)
                found = ItemColumn.of(schema.field(names[0]).type)
                if found != column:
                    raise UserError(
                        "All files of items must hold the same. Received: column "
                        f"{names[0]!r} with {found or 'no items'} in {path}, with {column} in the "
                        "first file."
                    )
                parts += [ItemPart(path, n, *names) for n in range(footer.num_row_groups)]
        return parts

    def read(self, part: ItemPart) -> PartItems:
        """Reads one part; of a row group that is corrupt all rows are bad.

        Raises:
            StorageError: where the storage fails.
            ReadTimeoutError: for a row group that does not come.
        """
        footer = self._read_footer(part.path)
        names = [part.item, part.group]
        read = partial(_read_row_group, footer, part.row_group, names)
        try:
            table = _read_bounded(self._filesystem, part.path, read, part.place)
        except DamageError as e:
            schema = footer.schema.to_arrow_schema()
            empty = pa.Table.from_batches([], schema).select(names)
            num_bad, problem = footer.row_group(part.row_group).num_rows, f"cannot be read: {e}"
            return self._keep(part, empty, num_bad, f"{part.place} {problem}")
        reasons, problem = self._find_bad(part, table), ""
        if reasons.is_bad.any():
            row, reason = reasons.first()
            problem = f"{part.place}, row {row}: {reason}"
            table = table.filter(pa.array(~reasons.is_bad))
        return self._keep(part, table, int(np.count_nonzero(reasons.is_bad)), problem)

    def _keep(self, part: ItemPart, table: pa.Table, num_bad: int, problem: str) -> PartItems:
        items = self._codec.read(table[part.item])
        groups = table[part.group].combine_chunks().dictionary_encode()
        return PartItems(items=items, groups=groups, num_bad=num_bad, problem=problem)

    def _find_bad(self, part: ItemPart, table: pa.Table) -> Reasons:
        """The bad rows: all of them, since no row is told from another once it is held."""
        reasons = Reasons(table.num_rows)
        for name in (part.item, part.group):
            reasons.add(f"column {name!r} is null", table[name].is_null().to_numpy())
        items, groups = table[part.item], table[part.group]
        bad = self._codec.find_bad(self._codec.read(items), thoroughly=True)
        reasons.add_items(part.item, bad)
        if is_text(groups.type):
            texts = TextCodec(length=0, alphabet_size=0)
            reasons.add_items(part.group, texts.find_bad(texts.read(groups)))
        return reasons


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
