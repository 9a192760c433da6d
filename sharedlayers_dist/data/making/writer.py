"""Writes pair datasets: joins pairs of item numbers with the items, in bounded memory.

The items are gone through once. Each is spilled to the disk for the *parts* of the output that use
it; then the parts are made one after the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharedlayers_dist.data.alphabet import make_alphabet
from sharedlayers_dist.data.items.column import TYPES_OF_ITEMS, ItemColumn
from sharedlayers_dist.data.making.chaining import RUN_LENGTH
from sharedlayers_dist.data.making.items import ItemSource
from sharedlayers_dist.data.making.spill import (
    iter_sides,
    plan_needed,
    spill_items,
    take_part,
)
from sharedlayers_dist.data.schema import PairMetadata, pair_schema
from sharedlayers_dist.errors import UserError

_STREAMS = 24
"""Row groups come in multiples of this, so that as many streams have something to read."""
_MAX_ROWS = 2048
_MIN_ROWS = 64
_MAX_BYTES = 64 << 20
_MAX_PARTS = 128


class FilePairs(NamedTuple):
    """Pairs of one set in the order of its file rows."""

    a: np.ndarray
    """int64 (num_pairs,), number of the first item among all items of the source."""
    b: np.ndarray
    """int64 (num_pairs,), number of the second item."""
    label: np.ndarray
    """int8 (num_pairs,)."""
    rows_per_row_group: np.ndarray
    """int64 (num_row_groups,), adding up to num_pairs."""


class Groups(NamedTuple):
    """Whose items they are."""

    names: pa.Array
    """`string` (num_groups,)."""
    of_item: np.ndarray
    """int (num_items,), index of each item's group."""


class _File(NamedTuple):
    """One Parquet file to write."""

    set_name: str
    path: Path
    rows: slice
    """Its rows among the pairs of its set."""
    rows_per_row_group: np.ndarray


def count_row_groups(num_pairs: int, bytes_per_item: float) -> int:
    """Row groups to cut `num_pairs` into: about 2,048 pairs each, fewer in small sets.

    Small sets are cut finer, down to 64 pairs, so that 24 readers at a time all have some; of large
    items a row group holds about 64 MB at most.

    Args:
        num_pairs: pairs of one set.
        bytes_per_item: mean size of an item.
    """
    max_rows = max(1, min(_MAX_ROWS, int(_MAX_BYTES / (2 * max(bytes_per_item, 1)))))
    if num_pairs < _STREAMS * min(_MIN_ROWS, max_rows):
        return max(1, -(-num_pairs // min(_MIN_ROWS, max_rows)))
    return _STREAMS * -(-num_pairs // (_STREAMS * max_rows))


def write_sets(
    folder: Path,
    sets: Mapping[str, FilePairs],
    source: ItemSource,
    groups: Groups,
    made_by: Mapping[str, object],
    *,
    advance: Callable[[int], object] = lambda num_rows: None,
) -> None:
    """Writes each set to its own folder of Parquet files below `folder`.

    Args:
        folder: where the sets' folders are made; it must exist.
        sets: the pairs of each set, as numbers of items; the first set is the training set, whose
            texts the alphabet is made from.
        source: the items, numbered in their order.
        groups: whose item each is.
        made_by: what the files say about how they were made.
        advance: called with the number of items read and of pairs written, as they are.

    Raises:
        UserError: for what holds no items.
        RuntimeError: when the source gives another number of items than before.
    """
    column = ItemColumn.of(source.item_type)
    if column is None:
        raise UserError(f"Items must be {TYPES_OF_ITEMS}. Received: {source.item_type}.")
    parts = _plan_parts(folder, sets)
    needed = plan_needed(
        [
            np.concatenate([side[file.rows] for file in files for side in sets[file.set_name][:2]])
            for files in parts
        ]
    )
    training = next(iter(sets.values()))
    uses_in_training = np.bincount(
        np.concatenate([training.a, training.b]), minlength=len(groups.of_item)
    )
    with tempfile.TemporaryDirectory(prefix=".spilled-", dir=folder) as spilled:
        used = spill_items(Path(spilled), needed, source, uses_in_training, advance)
        alphabet = None
        if column.kind == "text":
            alphabet = make_alphabet(iter_sides(used))
        else:
            for _ in used:
                pass  # Nothing is made of the training items but the files.
        metadata = PairMetadata(
            kind=column.kind, alphabet=alphabet, made_by=dict(made_by), run_length=RUN_LENGTH
        )
        schema = pair_schema(source.item_type, metadata)
        for part, files in enumerate(parts):
            numbers, items = take_part(Path(spilled), part)
            for file in files:
                _write_file(file, sets[file.set_name], numbers, items, groups, schema, advance)


def _plan_parts(folder: Path, sets: Mapping[str, FilePairs]) -> list[list[_File]]:
    """The files of each part, in order; as few of them as the number of parts lets."""
    files = [file for name, pairs in sets.items() for file in _plan_files(folder, name, pairs)]
    num_parts = min(len(files), _MAX_PARTS)
    part_of_file = np.arange(len(files)) * num_parts // len(files)
    return [
        [files[index] for index in np.flatnonzero(part_of_file == part)]
        for part in range(num_parts)
    ]


def _plan_files(folder: Path, set_name: str, pairs: FilePairs) -> Iterator[_File]:
    """The files of one set, each with up to 24 row groups."""
    ends = np.cumsum(pairs.rows_per_row_group)
    for number, first in enumerate(range(0, len(ends), _STREAMS)):
        rows_per_row_group = pairs.rows_per_row_group[first : first + _STREAMS]
        stop = int(ends[first + len(rows_per_row_group) - 1])
        rows = slice(stop - int(rows_per_row_group.sum()), stop)
        path = folder / set_name / f"part-{number:05d}.parquet"
        yield _File(set_name, path, rows, rows_per_row_group)


def _write_file(
    file: _File,
    pairs: FilePairs,
    numbers: np.ndarray,
    items: pa.Array,
    groups: Groups,
    schema: pa.Schema,
    advance: Callable[[int], object],
) -> None:
    """Writes one Parquet file from the `items` (n,) with these `numbers` (n,), in order."""
    file.path.parent.mkdir(exist_ok=True)
    start = file.rows.start
    item_type = schema.field("a").type
    with pq.ParquetWriter(file.path, schema, compression="zstd") as writer:
        for num_rows in file.rows_per_row_group.tolist():
            rows = slice(start, start + num_rows)
            sides = [pairs.a[rows], pairs.b[rows]]
            taken = [items.take(pa.array(np.searchsorted(numbers, side))) for side in sides]
            columns = [x if x.type == item_type else x.cast(item_type) for x in taken]
            columns.append(pa.array(pairs.label[rows]))
            columns += [groups.names.take(pa.array(groups.of_item[side])) for side in sides]
            writer.write_batch(pa.record_batch(columns, schema=schema), row_group_size=num_rows)
            start += num_rows
            advance(num_rows)
