"""Items and their groups from Parquet files, with every error placed in its row group or row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.damage import NotedFile, reason_of_damage
from sharedlayers_dist.data.files import FoundFile, check_column, open_to_go_through
from sharedlayers_dist.data.items.column import TYPES_OF_ITEMS, ItemColumn, is_text
from sharedlayers_dist.data.making.bad_rows import BadRows
from sharedlayers_dist.data.making.item_types import (
    ItemForm,
    agree_on_type,
    bytes_per_value,
    find_bad_texts,
)
from sharedlayers_dist.errors import UserError

BYTES_PER_BATCH = 64 << 20
"""Of items, about."""
_ROWS_LOOKED_AT = 1024
"""At once, for a vector."""
_RULES = {
    "text": "a text column must be of strings",
    "image": "an image column must hold images (fixed_shape_tensor, or PNG and JPEG files as "
    "binary or as a struct with a field `bytes`)",
    "any": f"a column of items must hold {TYPES_OF_ITEMS}",
    "group": "a group column must be of strings or integers",
}


class ItemColumns(NamedTuple):
    """Which columns of a file are read."""

    item: str
    group: str
    kind: Literal["text", "image", "any"]
    """What the items must be."""


class ItemBatch(NamedTuple):
    """Consecutive items of a source."""

    items: pa.Array
    """Of the source's type; no nulls."""
    groups: pa.Array
    """`string`, whose item it is; no nulls."""


def iter_parquet(
    columns: ItemColumns,
    form: ItemForm,
    bad_rows: BadRows,
    *,
    rows_per_batch: int,
    known: np.ndarray | None = None,
) -> Iterator[ItemBatch]:
    """Goes through a file's row groups in bounded memory.

    Args:
        columns: Which columns are read.
        form: What becomes of the items.
        bad_rows: What happens to those that cannot be used; it knows the file.
        rows_per_batch: Most rows of a batch; fewer where the items are large.
        known: int64 (n,), numbers of the bad rows where all have been looked at before.

    Raises:
        UserError: for a file without a footer, a column that is missing or of another type, and
            for a damaged row group or a bad row that is not skipped.
        StorageError: where the storage fails.
    """
    first_row = 1
    with NotedFile(bad_rows.filesystem, bad_rows.path) as source:
        file = open_parquet(source, bad_rows.path, columns)
        for row_group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(row_group).num_rows
            batches = file.iter_batches(
                min(rows_per_batch, _count_rows_at_once(file, row_group, columns.item)),
                row_groups=[row_group],
                columns=[columns.item, columns.group],
            )
            num_read = 0
            while num_read < num_rows:
                try:
                    batch = next(batches)
                    items = batch.column(columns.item)
                    groups = batch.column(columns.group).cast(pa.string())
                    if known is None:
                        bad = _find_bad(items, groups, columns, form)
                    else:
                        here = known - (first_row + num_read)
                        of_batch = here[(here >= 0) & (here < len(batch))]
                        bad = dict.fromkeys(of_batch.tolist(), "has been found to be bad")
                except (pa.ArrowException, OSError) as error:
                    place = f"row group {row_group}"
                    bad_rows.reject_part(error, source, place, num_rows - num_read)
                    break
                for row in sorted(bad):
                    bad_rows.reject(bad[row], row=first_row + num_read + row)
                num_read += len(batch)
                yield _leave_out(bad, items, groups, form)
            first_row += num_rows


def _count_rows_at_once(file: pq.ParquetFile, row_group: int, column: str) -> int:
    """Rows of a row group whose items have about 64 MB, as far as the footer tells."""
    found = file.metadata.row_group(row_group)
    width = bytes_per_value(file.schema_arrow.field(column).type)
    num_bytes = sum(
        # Numbers that come again and again take less space in the file than in memory.
        max(chunk.total_uncompressed_size, chunk.num_values * width)
        for chunk in map(found.column, range(found.num_columns))
        if f"{chunk.path_in_schema}.".startswith(f"{column}.")
    )
    return max(1, BYTES_PER_BATCH * found.num_rows // max(num_bytes, 1))


def open_parquet(source: NotedFile, path: str, columns: ItemColumns) -> pq.ParquetFile:
    """Opens a file whose columns are there and of types that can be read.

    Raises:
        UserError: for any other file.
        StorageError: where the storage fails.
    """
    try:
        file = open_to_go_through(source)
    except (pa.ArrowException, OSError) as error:
        reason = reason_of_damage(error, source, path)
        raise UserError(
            f"{path} is not a complete Parquet file: {reason}. Write it anew."
        ) from error
    schema = file.schema_arrow
    for column, wanted in ((columns.item, columns.kind), (columns.group, "group")):
        check_column(path, column, schema.names)
        _check_type(path, column, schema.field(column).type, wanted)
    return file


def find_form(
    filesystem: fs.FileSystem, files: Sequence[FoundFile], columns: ItemColumns
) -> ItemForm:
    """What becomes of the items of several Parquet files, which must hold the same.

    Raises:
        UserError: where they do not, or hold no items; where no row has a vector that would tell
            how long all must be.
        StorageError: where the storage fails.
    """
    types: dict[str, pa.DataType] = {}
    for file in files:
        with NotedFile(filesystem, file.path) as source:
            schema = open_parquet(source, file.path, columns).schema_arrow
        types[file.path] = schema.field(columns.item).type
    item_type = agree_on_type(types)
    column = ItemColumn.of(item_type)
    if column is not None and column.kind == "vector" and not column.shape:
        return ItemForm.of(item_type, _find_vector_size(filesystem, files, columns))
    return ItemForm.of(item_type)


def _find_vector_size(
    filesystem: fs.FileSystem, files: Sequence[FoundFile], columns: ItemColumns
) -> int:
    """How many numbers the first vector has."""
    for path in (file.path for file in files):
        with NotedFile(filesystem, path) as source:
            file = open_parquet(source, path, columns)
            for row_group in range(file.num_row_groups):
                try:
                    for batch in file.iter_batches(
                        _ROWS_LOOKED_AT, row_groups=[row_group], columns=[columns.item]
                    ):
                        sizes = pc.fill_null(pc.list_value_length(batch.column(0)), 0).to_numpy()
                        if sizes.any():
                            return int(sizes[np.flatnonzero(sizes)[0]])
                except (pa.ArrowException, OSError) as error:
                    reason_of_damage(error, source, path)  # Damage is told when all is read.
    raise UserError(
        f"There must be a vector to tell how long all are. Received: column {columns.item!r} of "
        f"{files[0].path}{' and others' if len(files) > 1 else ''}, where no row has numbers."
    )


def _find_bad(
    items: pa.Array, groups: pa.Array, columns: ItemColumns, form: ItemForm
) -> dict[int, str]:
    """Rows of a batch that cannot be used, and why."""
    return {
        row: f"column {column!r} {reason}"
        for column, bad in (
            (columns.group, find_bad_texts(groups)),
            (columns.item, form.find_bad(items)),
        )
        for row, reason in bad.items()
    }


def _leave_out(bad: dict[int, str], items: pa.Array, groups: pa.Array, form: ItemForm) -> ItemBatch:
    """A batch without its bad rows."""
    if bad:
        is_good = np.ones(len(items), np.bool_)
        is_good[list(bad)] = False
        items, groups = (values.filter(pa.array(is_good)) for values in (items, groups))
    return ItemBatch(form.convert(items), groups)


def _check_type(path: str, column: str, found: pa.DataType, wanted: str) -> None:
    """Raises UserError unless a column can be read as what is wanted of it."""
    held = ItemColumn.of(found)
    if wanted == "group":
        value = found.value_type if pa.types.is_dictionary(found) else found
        holds = is_text(found) or pa.types.is_integer(value)
    elif wanted == "any":
        holds = held is not None
    else:
        holds = held is not None and held.kind == wanted
    if not holds:
        raise UserError(f"{path}, column {column!r}: {_RULES[wanted]}. Received: {found}.")
