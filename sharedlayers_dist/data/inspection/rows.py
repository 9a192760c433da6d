"""What inspection keeps of a set's rows: numbers for their items and groups, and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.damage import NotedFile, reason_of_damage
from sharedlayers_dist.data.index import DatasetIndex
from sharedlayers_dist.data.items.characters import NUM_CODE_POINTS, count_characters
from sharedlayers_dist.data.items.choosing import choose_plain_codec
from sharedlayers_dist.data.items.codec import Items, PairCodecs, take_items
from sharedlayers_dist.data.reading.row_groups import RowGroupLoader
from sharedlayers_dist.storage.uri import open_filesystem

UNKNOWN_GROUP = -1
_LONGEST = 10_000
"""Characters; longer texts are counted as this long."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(kw_only=True)
class SetRows:
    """The good rows that were read of one set, 49 bytes each; all arrays in file order."""

    row_group: np.ndarray
    """int64 (rows,), index of each row's row group in the dataset."""
    label: np.ndarray
    """int8 (rows,), 0 or 1."""
    item: np.ndarray
    """uint64 (rows, 2), equal for the same item: content to the letter, and group."""
    content: np.ndarray
    """uint64 (rows, 2), equal for content that counts as the same (see `content_keys`)."""
    group: np.ndarray
    """int32 (rows, 2), index of each side's group among `group_names`, or `UNKNOWN_GROUP`."""
    lengths: np.ndarray
    """int64 (10,001,), sides with each number of characters; zeros where no side is text."""
    characters: np.ndarray
    """int64 (0x110000,), how often the sides hold each code point."""
    num_read: int
    """Rows read, the bad ones included."""
    num_bad: int
    problems: list[str]
    """The first bad row of each row group that has some."""
    group_problems: list[str]
    """Why groups are unknown, for each row group whose group columns cannot be read."""


class GroupNumbers:
    """Numbers for group names, the same over all sets."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The names in the order of their numbers."""
        return list(self._numbers)

    def number(self, groups: pa.ChunkedArray) -> np.ndarray:
        """Numbers int32 (n,) of `groups` (n,); `UNKNOWN_GROUP` for nulls."""
        encoded = groups.cast(pa.string()).combine_chunks().dictionary_encode()
        numbers = [
            self._numbers.setdefault(name, len(self._numbers))
            for name in encoded.dictionary.to_pylist()
        ]
        index = pc.fill_null(encoded.indices, len(numbers)).to_numpy()
        return np.array([*numbers, UNKNOWN_GROUP], np.int32)[index]


def open_plainly(index: DatasetIndex, *, thoroughly: bool = False) -> RowGroupLoader:
    """A loader of a set's items as their columns say, for no model; it skips bad rows."""
    codecs = PairCodecs(choose_plain_codec(index.a), choose_plain_codec(index.b))
    return RowGroupLoader(index, codecs, on_bad_row="skip", thoroughly=thoroughly)


def choose_row_groups(index: DatasetIndex, max_rows: int | None) -> np.ndarray:
    """Row groups with rows to read: all, or evenly spaced ones of about `max_rows` rows in all."""
    filled = np.flatnonzero(index.row_counts)
    if max_rows is None or index.num_rows <= max_rows:
        return filled
    num_chosen = max(1, len(filled) * max_rows // index.num_rows)
    return filled[np.arange(num_chosen) * len(filled) // num_chosen]


def read_set(
    index: DatasetIndex,
    row_groups: np.ndarray,
    groups: GroupNumbers,
    advance: Callable[[int], object],
    *,
    thoroughly: bool = False,
) -> SetRows:
    """Reads `row_groups` of a set; bad rows are counted and left out.

    Args:
        index: the set.
        row_groups: int (n,), which row groups of the set.
        groups: gets the names of the groups that it does not have yet.
        advance: called with the number of rows read, after each row group.
        thoroughly: whether to decode what reading alone does not, to see whether it can be.
    """
    loader = open_plainly(index, thoroughly=thoroughly)
    counts = _TextCounts()
    parts = [_RowPart.empty()]
    num_read = 0
    problems: list[str] = []
    group_problems: list[str] = []
    for row_group in row_groups.tolist():
        loaded = loader.load(row_group)
        if loaded.problem:
            problems.append(loaded.problem)
        num_read += len(loaded.label)
        advance(len(loaded.label))
        good = np.flatnonzero(loaded.label >= 0)
        if not len(good):
            continue
        group, problem = _read_groups(index, row_group, groups)
        group = group[good]
        group_problems += [problem] if problem else []
        sides = [take_items(side, good) for side in (loaded.a, loaded.b)]
        for side in sides:
            if _is_text(side):
                counts.add(side)
        item, content = _number_items(sides, group)
        label = loaded.label[good].astype(np.int8)
        parts.append(_RowPart(np.full(len(good), row_group), label, item, content, group))
    rows = _RowPart(*map(np.concatenate, zip(*parts, strict=True)))
    return SetRows(
        **rows._asdict(),
        lengths=counts.lengths,
        characters=counts.characters,
        num_read=num_read,
        num_bad=num_read - len(rows.label),
        problems=problems,
        group_problems=group_problems,
    )


class _RowPart(NamedTuple):
    """The rows of one row group, by the names of `SetRows`."""

    row_group: np.ndarray
    label: np.ndarray
    item: np.ndarray
    content: np.ndarray
    group: np.ndarray

    @classmethod
    def empty(cls) -> _RowPart:
        """No rows, of the right types."""
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.int8),
            np.empty((0, 2), np.uint64),
            np.empty((0, 2), np.uint64),
            np.empty((0, 2), np.int32),
        )


class _TextCounts:
    """How long texts are, and how often each character is in them."""

    def __init__(self) -> None:
        self.lengths = np.zeros(_LONGEST + 1, np.int64)
        self.characters = np.zeros(NUM_CODE_POINTS, np.int64)

    def add(self, texts: pa.Array) -> None:
        """Counts more texts."""
        length = np.minimum(pc.utf8_length(texts).to_numpy(), _LONGEST)
        self.lengths += np.bincount(length, minlength=_LONGEST + 1)
        self.characters += count_characters(texts)


def _number_items(sides: list[Items], group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys uint64 (rows, 2) of both sides' items and contents, as in `SetRows`."""
    exact = np.stack([content_keys(side, exact=True) for side in sides], axis=1)
    content = exact.copy()
    for number, side in enumerate(sides):
        if _is_text(side):
            content[:, number] = content_keys(side)
    return exact ^ (group.astype(np.uint64) * _MIX), content


def _is_text(items: Items) -> bool:
    return isinstance(items, pa.Array) and pa.types.is_large_string(items.type)


def _read_groups(
    index: DatasetIndex, row_group: int, groups: GroupNumbers
) -> tuple[np.ndarray, str]:
    """Numbers int32 (rows, 2) of both sides' groups; and why they are unknown, if they are."""
    unknown = np.full((int(index.row_counts[row_group]), 2), UNKNOWN_GROUP, np.int32)
    if not index.has_groups:
        return unknown, ""
    file, number = index.file_of_group(row_group)
    filesystem, _ = open_filesystem(index.uri)
    with NotedFile(filesystem, file.path) as source:
        try:
            table = pq.ParquetFile(source).read_row_group(number, ["group_a", "group_b"])
            sides = [groups.number(table[name]) for name in ("group_a", "group_b")]
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            place = index.place_of_group(row_group)
            return unknown, f"{place}: {reason_of_damage(error, source, place)}"
    return np.stack(sides, axis=1), ""
