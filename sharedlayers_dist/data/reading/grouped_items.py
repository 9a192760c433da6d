"""Items and the group of each: what batches of groups are made of.

They come from a column of items and one of groups; or from a pair dataset that says whose item each
is, whose distinct items these are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.damage import OnBadRow
from sharedlayers_dist.data.items.choosing import choose_plain_codec
from sharedlayers_dist.data.items.codec import ItemCodec, Items, take_items
from sharedlayers_dist.data.items.column import ItemColumn
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.item_files import (
    ItemFiles,
    ItemPart,
    PartItems,
    describe_items,
)
from sharedlayers_dist.data.reading.item_store import store_items
from sharedlayers_dist.data.reading.row_groups import bad_row_error
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.uri import hide_secrets


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedItems:
    """Where items are and what is known of each: its group, and which others are equal.

    Make it with `read_items`. It holds 24 bytes for each item. The items themselves are read again
    when they are asked for, and are on this host's disk then, as `store_items` says; pickled, it
    goes without them, and others than those that were read first are refused.
    """

    uri: str
    column: ItemColumn
    """What the items are."""
    codec: ItemCodec
    """What they were read and checked with."""
    group_of_item: Rows
    """Number of each item's group, from 0, shape `(items,)`."""
    key_of_item: NDArray[np.int64]
    """The `content_keys` of the items: the same for those that count as equal."""
    fingerprint: str
    """Hash of the items and their groups in their order."""
    parts: Sequence[ItemPart]
    """Where the items are, in their order."""
    part_starts: Rows
    """Items before each part, and in all, shape `(parts + 1,)`."""
    place_in_part: Rows
    """Each item's place among those of its part that are not bad, shape `(items,)`."""
    digests: Sequence[str] = field(repr=False)
    """A hash of what each part held when it was read first."""
    num_bad_rows: int = 0
    """Rows that were left out."""
    problems: Sequence[str] = ()
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
    def items(self) -> Items:
        """All items as their codec holds them.

        Raises:
            UserError: for others than those that were read first, or no room for them.
            StorageError: where the storage fails.
            ReadTimeoutError: for a row group that does not come.
        """
        return self.store_parts(range(len(self.parts)))

    def part_of(self, items: Rows) -> Rows:
        """The number of the part that each of some items is in."""
        return np.searchsorted(self.part_starts, items, side="right") - 1

    def store_parts(self, numbers: Sequence[int]) -> Items:
        """The items of some parts, end to end; see `items`."""
        return store_items(self._read_parts(numbers))

    def _read_parts(self, numbers: Sequence[int]) -> Iterator[Items]:
        yield self.codec.blanks(0)
        files = ItemFiles(self.uri, self.codec)
        for number in numbers:
            begin, stop = self.part_starts[number : number + 2]
            if begin < stop:
                part = files.read(self.parts[number])
                self._require_same(number, part.digest)
                yield take_items(part.items, self.place_in_part[begin:stop])

    def _require_same(self, number: int, digest: str) -> None:
        if digest != self.digests[number]:
            raise UserError(
                f"All ranks must read the same items. Received: {self.parts[number].place} with "
                "other items, or groups, than rank 0 has read. Give all hosts the same files, and "
                "leave them alone while a run goes on."
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the items behind."""
        return {name: value for name, value in self.__dict__.items() if name != "items"}


def read_items(
    uri: str,
    *,
    item: str,
    group: str,
    on_bad_row: OnBadRow = "error",
    codec: ItemCodec | None = None,
) -> GroupedItems:
    """Reads the items of a folder or file of Parquet, row group by row group.

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
    files = ItemFiles(uri, codec)
    parts = files.find_parts(item, group, column)
    found = [_look_at(files.read(part), on_bad_row) for part in parts]
    exact_key = np.concatenate([np.empty(0, np.uint64), *(known.exact_keys for known in found)])
    keys = np.concatenate([np.empty(0, np.uint64), *(known.keys for known in found)])
    group_of_item = _number_groups([known.groups for known in found], uri)
    part_starts = np.cumsum([0, *(len(known.groups) for known in found)])
    kept = np.arange(exact_key.size)
    if any(part.item != item for part in parts):
        pairs = np.stack([exact_key, group_of_item.astype(np.uint64)])
        kept = np.sort(np.unique(pairs, axis=1, return_index=True)[1])
    place_in_part = kept - part_starts[np.searchsorted(part_starts, kept, side="right") - 1]
    return GroupedItems(
        uri=uri,
        column=column,
        codec=codec,
        group_of_item=group_of_item[kept],
        key_of_item=keys[kept].view(np.int64),
        fingerprint=_make_fingerprint(column, group_of_item[kept], exact_key[kept]),
        parts=parts,
        part_starts=np.searchsorted(kept, part_starts),
        place_in_part=place_in_part,
        digests=[known.digest for known in found],
        num_bad_rows=sum(known.num_bad for known in found),
        problems=[known.problem for known in found if known.problem],
    )


class _Known(NamedTuple):
    """What is kept of a part when its items have gone by."""

    exact_keys: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    groups: pa.DictionaryArray
    digest: str
    num_bad: int
    problem: str


def _look_at(part: PartItems, on_bad_row: OnBadRow) -> _Known:
    if part.problem and on_bad_row == "error":
        raise bad_row_error(part.problem)
    return _Known(
        part.exact_keys,
        content_keys(part.items),
        part.groups,
        part.digest,
        part.num_bad,
        part.problem,
    )


def _number_groups(groups: Sequence[pa.DictionaryArray], uri: str) -> Rows:
    """The number of each item's group, over all parts, in the order in which they come first."""
    if not groups:
        return np.empty(0, np.int64)
    try:
        values = pa.concat_arrays([of_part.dictionary for of_part in groups])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as e:
        raise UserError(f"The files of {hide_secrets(uri)} differ: {one_line(e)}") from e
    number_of_value = values.dictionary_encode().indices.to_numpy().astype(np.int64)
    starts = np.cumsum([0, *(len(of_part.dictionary) for of_part in groups)])
    numbers = [
        number_of_value[start:][of_part.indices.to_numpy()]
        for start, of_part in zip(starts, groups, strict=False)
    ]
    return np.concatenate(numbers)


def _make_fingerprint(
    column: ItemColumn, group_of_item: Rows, exact_keys: NDArray[np.uint64]
) -> str:
    digest = hashlib.sha256(repr((column.kind, column.shape, column.dtype)).encode())
    digest.update(group_of_item.tobytes())
    digest.update(exact_keys.tobytes())
    return digest.hexdigest()[:16]
