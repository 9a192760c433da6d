"""Writes pair datasets: joins pairs of item numbers with the items, in bounded memory.

The items are gone through once. Each is put aside, on disk, for the *parts* of the output that use
it; then the parts are made one after the other, each from its own items alone. So at most one part
is in memory, and all reading and writing is in sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharedlayers_dist.data.alphabet import make_alphabet
from sharedlayers_dist.data.making.chaining import RUN_LENGTH
from sharedlayers_dist.data.making.items import ItemSource
from sharedlayers_dist.data.making.parquet_files import num_bytes_of
from sharedlayers_dist.data.schema import PairMetadata, kind_of, pair_schema
from sharedlayers_dist.errors import UserError

_STREAMS = 24
"""Row groups come in multiples of this, so that as many streams have something to read."""
_MAX_ROWS = 2048
_MIN_ROWS = 64
_MAX_BYTES = 64 << 20
_MAX_PARTS = 128
_ITEMS_AT_ONCE = 1024
"""Of those that are repeated as often as pairs use them."""


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


def count_row_groups(num_pairs: int, item_type: pa.DataType) -> int:
    """Row groups to cut `num_pairs` into: about 2,048 pairs each, fewer in small sets.

    Small sets are cut finer, down to 64 pairs, so that 24 readers at a time all have some; a row
    group of images holds at most 64 MB.
    """
    max_rows = _MAX_ROWS
    if kind_of(item_type) == "image":
        max_rows = max(1, min(max_rows, _MAX_BYTES // (2 * num_bytes_of(item_type))))
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
        RuntimeError: when the source gives another number of items than before.
    """
    files = [file for name, pairs in sets.items() for file in _plan_files(folder, name, pairs)]
    num_parts = min(len(files), _MAX_PARTS)
    part_of_file = np.arange(len(files)) * num_parts // len(files)
    training = next(iter(sets.values()))
    uses_in_training = np.bincount(
        np.concatenate([training.a, training.b]), minlength=len(groups.of_item)
    )
    needed = _plan_parts(files, part_of_file, sets)
    kind = kind_of(source.item_type)
    if kind is None:
        raise UserError(f"Items must be texts or images. Received: {source.item_type}.")
    aside = folder / "aside"
    aside.mkdir()
    used = _put_aside(aside, needed, source, uses_in_training, advance)
    alphabet = None
    if kind == "text":
        alphabet = make_alphabet(_iter_sides(used))
    else:
        for _ in used:
            pass  # Nothing is made of the training images but the files.
    metadata = PairMetadata(
        kind=kind, alphabet=alphabet, made_by=dict(made_by), run_length=RUN_LENGTH
    )
    schema = pair_schema(source.item_type, metadata)
    for part in range(num_parts):
        stored = _part_path(aside, part)
        with pa.OSFile(str(stored)) as stream, pa.ipc.open_stream(stream) as reader:
            table = reader.read_all()
        numbers = table["number"].to_numpy()
        items = table["item"].combine_chunks()
        for index in np.flatnonzero(part_of_file == part).tolist():
            _write_file(
                files[index], sets[files[index].set_name], numbers, items, groups, schema, advance
            )
        stored.unlink()
    aside.rmdir()


def _plan_files(folder: Path, set_name: str, pairs: FilePairs) -> Iterator[_File]:
    """The files of one set, each with up to 24 row groups."""
    ends = np.cumsum(pairs.rows_per_row_group)
    for number, first in enumerate(range(0, len(ends), _STREAMS)):
        rows_per_row_group = pairs.rows_per_row_group[first : first + _STREAMS]
        stop = int(ends[first + len(rows_per_row_group) - 1])
        rows = slice(stop - int(rows_per_row_group.sum()), stop)
        path = folder / set_name / f"part-{number:05d}.parquet"
        yield _File(set_name, path, rows, rows_per_row_group)


class _Needed(NamedTuple):
    """Which part uses which item: each combination once, in order of item."""

    item: np.ndarray
    part: np.ndarray


def _plan_parts(
    files: list[_File], part_of_file: np.ndarray, sets: Mapping[str, FilePairs]
) -> _Needed:
    items, parts = [], []
    for part in range(int(part_of_file[-1]) + 1):
        sides = [
            side[files[index].rows]
            for index in np.flatnonzero(part_of_file == part).tolist()
            for side in sets[files[index].set_name][:2]
        ]
        items.append(np.unique(np.concatenate(sides)))
        parts.append(np.full(len(items[-1]), part))
    item = np.concatenate(items)
    order = np.argsort(item, kind="stable")
    return _Needed(item[order], np.concatenate(parts)[order])


class _Used(NamedTuple):
    """Consecutive items of the source, and in how many sides of training pairs each is."""

    items: pa.Array
    uses: np.ndarray


def _put_aside(
    aside: Path,
    needed: _Needed,
    source: ItemSource,
    uses_in_training: np.ndarray,
    advance: Callable[[int], object],
) -> Iterator[_Used]:
    """Copies every part's items to a file of its own; tells how often training uses each item."""
    schema = pa.schema([("number", pa.int64()), ("item", source.item_type)])
    start = 0
    with ExitStack() as stack:
        writers = []
        for part in range(int(needed.part.max()) + 1):
            stream = stack.enter_context(pa.OSFile(str(_part_path(aside, part)), "wb"))
            writers.append(stack.enter_context(pa.ipc.new_stream(stream, schema)))
        for items, _ in source.iter_batches():
            stop = start + len(items)
            here = slice(*np.searchsorted(needed.item, [start, stop]))
            numbers, part_of_number = needed.item[here], needed.part[here]
            for part in np.unique(part_of_number).tolist():
                of_part = numbers[part_of_number == part]
                writers[part].write_batch(
                    pa.record_batch(
                        [pa.array(of_part), items.take(pa.array(of_part - start))], schema=schema
                    )
                )
            yield _Used(items, uses_in_training[start:stop])
            start = stop
            advance(len(items))
    if start != len(uses_in_training):
        raise RuntimeError(
            "The items changed while they were being read. Received: "
            f"{len(uses_in_training)} items at first, then {start}."
        )


def _iter_sides(used: Iterator[_Used]) -> Iterator[pa.Array]:
    """The items as often as they are used, a few at a time."""
    for items, uses in used:
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            times = uses[start : start + _ITEMS_AT_ONCE]
            yield items.take(pa.array(np.repeat(np.arange(start, start + len(times)), times)))


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
    with pq.ParquetWriter(file.path, schema, compression="zstd") as writer:
        for num_rows in file.rows_per_row_group.tolist():
            rows = slice(start, start + num_rows)
            sides = [pairs.a[rows], pairs.b[rows]]
            columns = [items.take(pa.array(np.searchsorted(numbers, side))) for side in sides]
            columns.append(pa.array(pairs.label[rows]))
            columns += [groups.names.take(pa.array(groups.of_item[side])) for side in sides]
            writer.write_batch(pa.record_batch(columns, schema=schema), row_group_size=num_rows)
            start += num_rows
            advance(num_rows)


def _part_path(aside: Path, part: int) -> Path:
    return aside / f"{part}.arrow"
