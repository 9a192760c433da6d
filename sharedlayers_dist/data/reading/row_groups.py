"""Loading one row group of a pair dataset: decoded, checked, with every error placed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sharedlayers_dist.data.damage import DamageError, OnBadRow, OpenFile, read_file
from sharedlayers_dist.data.index import DatasetIndex, IndexedFile
from sharedlayers_dist.data.items.codec import BadItems, Items, PairCodecs, blank_items
from sharedlayers_dist.data.reading.row_group_cache import RowGroupCache, version_of
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.file_cache import FileCache
from sharedlayers_dist.storage.uri import is_on_disk, open_filesystem

_FOOTERS_KEPT = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class RowGroup:
    """The pairs of one row group. Bad rows are there too: blank items, label -1, weight 0."""

    a: Items
    """The items as their codec holds them."""
    b: Items
    label: NDArray[np.float32]
    """0 or 1; -1 for a bad row; NaN where there is none and none is required; shape `(rows,)`."""
    weight: NDArray[np.float32]
    """How much each pair counts, shape `(rows,)`; 1 where the dataset has no weights."""
    problem: str = ""
    """Of the first bad row: where it lies and what is wrong with it."""


class RowGroupLoader:
    """Reads row groups of one dataset; may be called from several threads.

    Args:
        index: The dataset.
        codecs: How the items of both sides are read, and which of them are bad.
        on_bad_row: `error` raises for the first bad row; `skip` lets them through as `RowGroup`
            says. Bad are a null, a label other than 0 and 1, a weight that is negative or not
            finite, an item that its codec cannot use, and every row of a row group that is corrupt.
        requires_label: False makes NaN of labels that are missing or neither 0 nor 1.
        thoroughly: Whether to look for items, too, that only encoding finds to be bad.
        cache: Holds copies of row groups; not used for a dataset on a disk.

    Raises:
        UserError: for another `on_bad_row`.
    """

    def __init__(
        self,
        index: DatasetIndex,
        codecs: PairCodecs,
        *,
        on_bad_row: OnBadRow = "error",
        requires_label: bool = True,
        thoroughly: bool = False,
        cache: FileCache | None = None,
    ) -> None:
        if on_bad_row not in get_args(OnBadRow):
            raise UserError(
                f"`on_bad_row` must be 'error' or 'skip'. Received: on_bad_row={on_bad_row!r}."
            )
        self.index = index
        self.on_bad_row = on_bad_row
        self._filesystem, _ = open_filesystem(index.uri)
        self._codecs = codecs
        self._requires_label = requires_label
        self._thoroughly = thoroughly
        self._columns = ["a", "b"]
        self._columns += ["label"] if index.has_label else []
        self._columns += ["weight"] if index.has_weight else []
        self._cache = (
            None
            if cache is None or is_on_disk(index.uri)
            else RowGroupCache(cache, self._filesystem, index.uri, self._columns)
        )
        self._footers: OrderedDict[str, pq.FileMetaData] = OrderedDict()
        self._lock = Lock()

    def load(self, row_group: int) -> RowGroup:
        """Reads row group `row_group` of the dataset.

        Raises:
            UserError: for a file or row that cannot be used; names the file, the row group
                and, where one is to blame, the row.
            StorageError: where the storage fails; names the same.
        """
        file, group_of_file = self.index.file_of_group(row_group)
        place = self.index.place_of_group(row_group)
        try:
            return self._load(row_group, file, group_of_file, place)
        except MemoryError as e:  # No damage, of which rows may be left out.
            raise UserError(
                f"A row group must fit into memory. Received: {place}, with "
                f"{self.index.row_counts[row_group]} rows ({one_line(e)}). Write the pairs anew in "
                "smaller row groups, or give each process more memory."
            ) from e

    def _load(self, row_group: int, file: IndexedFile, group_of_file: int, place: str) -> RowGroup:
        read = partial(self._read, file, group_of_file)
        try:
            table = self._find_copy(file, group_of_file)
            if table is None:
                table = read_file(self._filesystem, file.path, read, place=place)
        except DamageError as e:
            problem = f"{place}: it cannot be read: {e}"
            if self.on_bad_row == "error":
                raise UserError(f"{problem}. Write the file anew.") from e
            return self._blank(int(self.index.row_counts[row_group]), problem)
        return self._check(table, place)

    def _find_copy(self, file: IndexedFile, group_of_file: int) -> pa.Table | None:
        if self._cache is None:
            return None
        return self._cache.find(file.path, group_of_file, file.row_counts[group_of_file])

    def _read(self, file: IndexedFile, group_of_file: int, open_file: OpenFile) -> pa.Table:
        with self._lock:
            footer = self._footers.get(file.path)
        with (
            open_file() as source,
            pq.ParquetFile(source, metadata=footer, pre_buffer=True) as parquet,
        ):
            if footer is None:
                with self._lock:
                    self._footers[file.path] = parquet.metadata
                    while len(self._footers) > _FOOTERS_KEPT:
                        self._footers.popitem(last=False)
            rows = file.row_counts[group_of_file]
            table = parquet.read_row_group(group_of_file, self._columns, use_threads=False)
            version = version_of(source)
        if table.num_rows != rows:
            raise pa.ArrowInvalid(f"it has {table.num_rows} rows, and had {rows} when indexed")
        if self._cache is not None:
            self._cache.keep(file.path, version, group_of_file, table)
        return table

    def _check(self, table: pa.Table, place: str) -> RowGroup:
        columns = {name: table[name] for name in self._columns}
        reasons = Reasons(table.num_rows)
        for name, column in columns.items():
            if column.null_count and (name != "label" or self._requires_label):
                reasons.add(f"column {name!r} is null", _to_numpy(column.is_null()))
        label = self._read_label(columns.get("label"), reasons)
        weight = np.ones(table.num_rows, np.float32)
        if self.index.has_weight:
            weight = _to_numpy(columns["weight"].cast(pa.float32(), safe=False).fill_null(0))
            is_bad = ~np.isfinite(weight) | (weight < 0)
            reasons.add("its weight is {} and must be finite and not negative", is_bad, weight)
        a, b = (self._read_items(columns[name], name, reasons) for name in "ab")
        is_bad = reasons.is_bad
        if not is_bad.any():
            return RowGroup(a=a, b=b, label=label, weight=weight)
        row, reason = reasons.first()
        problem = f"{place}, row {row}: {reason}"
        if self.on_bad_row == "error":
            raise bad_row_error(problem)
        return RowGroup(
            a=blank_items(a, is_bad),
            b=blank_items(b, is_bad),
            label=np.where(is_bad, -1, label).astype(np.float32),
            weight=np.where(is_bad, 0, weight).astype(np.float32),
            problem=problem,
        )

    def _read_label(self, column: pa.ChunkedArray | None, reasons: Reasons) -> NDArray[np.float32]:
        if column is None:
            return np.full(reasons.is_bad.size, np.nan, np.float32)
        label = _to_numpy(column.cast(pa.int64(), safe=False).fill_null(0))
        is_none = (label != 0) & (label != 1)
        if self._requires_label:
            reasons.add("its label is {} and must be 0 or 1", is_none, label)
            return label.astype(np.float32)
        is_none |= _to_numpy(column.is_null())
        return np.where(is_none, np.nan, label).astype(np.float32)

    def _read_items(self, column: pa.ChunkedArray, name: str, reasons: Reasons) -> Items:
        codec = getattr(self._codecs, name)
        items: Items = codec.read(column)
        reasons.add_items(name, codec.find_bad(items, thoroughly=self._thoroughly))
        return items

    def _blank(self, num_rows: int, problem: str) -> RowGroup:
        a, b = (codec.blanks(num_rows) for codec in self._codecs)
        weight = np.zeros(num_rows, np.float32)
        return RowGroup(a=a, b=b, label=weight - 1, weight=weight, problem=problem)


class Reasons:
    """Which rows of a row group are bad, and why the first one is."""

    def __init__(self, num_rows: int) -> None:
        self.is_bad = np.zeros(num_rows, np.bool_)
        self._found: list[tuple[int, str]] = []

    def add(self, reason: str, is_bad: NDArray[np.bool_], values: NDArray | None = None) -> None:
        """Adds rows with one reason, into which the first one's value is put."""
        if is_bad.any():
            row = int(np.argmax(is_bad))
            self._found.append((row, reason.format(None if values is None else values[row])))
            self.is_bad |= is_bad

    def add_items(self, column: str, bad: BadItems) -> None:
        """Adds the rows whose items in a column are bad."""
        if bad:
            row = min(bad)
            self._found.append((row, f"column {column!r} {bad[row]}"))
            self.is_bad[list(bad)] = True

    def first(self) -> tuple[int, str]:
        """The first bad row and its reason."""
        return min(self._found, key=lambda found: found[0])


def _to_numpy(column: pa.ChunkedArray) -> NDArray:
    return column.to_numpy()


def bad_row_error(problem: str) -> UserError:
    """The error for a bad row that is not to be skipped."""
    return UserError(f"{problem}. Correct it, or leave such rows out with --on-bad-row skip.")
