"""Items and their groups from Parquet files, with every error placed in its row group or row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.damage import NotedFile, reason_of_damage
from sharedlayers_dist.data.files import PARQUET, FoundFile, check_column, open_to_go_through
from sharedlayers_dist.data.items.characters import is_utf8
from sharedlayers_dist.data.items.column import is_text
from sharedlayers_dist.data.making.bad_rows import BadRows
from sharedlayers_dist.errors import UserError

_BYTES_PER_BATCH = 64 << 20


class ItemColumns(NamedTuple):
    """Which columns of a file are read."""

    item: str
    group: str
    kind: Literal["text", "image"]
    """What the items are."""


class ItemBatch(NamedTuple):
    """Consecutive items of a source."""

    items: pa.Array
    """`string`, or uint8 `fixed_shape_tensor`."""
    groups: pa.Array
    """`string`, whose item it is; no nulls."""


def iter_parquet(
    columns: ItemColumns, item_type: pa.DataType, bad_rows: BadRows, *, rows_per_batch: int
) -> Iterator[ItemBatch]:
    """Goes through a file's row groups in bounded memory.

    Raises:
        UserError: for a file without a footer, a column that is missing or of another type, and
            for a damaged row group or a bad row that is not skipped.
        StorageError: where the storage fails.
    """
    if columns.kind == "image":
        rows_per_batch = max(1, min(rows_per_batch, _BYTES_PER_BATCH // num_bytes_of(item_type)))
    first_row = 1
    with NotedFile(bad_rows.filesystem, bad_rows.path) as source:
        file = open_parquet(source, bad_rows.path, columns)
        for row_group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(row_group).num_rows
            batches = file.iter_batches(
                rows_per_batch, row_groups=[row_group], columns=[columns.item, columns.group]
            )
            num_read = 0
            while num_read < num_rows:
                try:
                    batch = next(batches)
                    read = ItemBatch(
                        _to_items(batch.column(columns.item), item_type),
                        batch.column(columns.group).cast(pa.string()),
                    )
                except (pa.ArrowException, OSError) as error:
                    place = f"row group {row_group}"
                    bad_rows.reject_part(error, source, place, num_rows - num_read)
                    break
                yield _leave_out_bad(read, columns, bad_rows, first_row=first_row + num_read)
                num_read += len(batch)
            first_row += num_rows


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


def find_image_type(
    filesystem: fs.FileSystem, files: list[FoundFile], columns: ItemColumns
) -> pa.FixedShapeTensorType:
    """The type of the images, which must be the same in all files.

    Raises:
        UserError: where it is not, or where a file is none of Parquet.
    """
    found = None
    for path in (file.path for file in files):
        if not path.lower().endswith(PARQUET):
            raise UserError(f"Images are read from Parquet files only. Received: {path}.")
        with NotedFile(filesystem, path) as source:
            schema = open_parquet(source, path, columns).schema_arrow
        stored = schema.field(columns.item).type
        item_type = pa.fixed_shape_tensor(pa.uint8(), stored.shape, permutation=stored.permutation)
        if found is not None and item_type != found:
            raise UserError(
                "All images must have one shape. Received: "
                f"{files[0].path} holds {found}, {path} holds {item_type}."
            )
        found = item_type
    return found


def num_bytes_of(image_type: pa.FixedShapeTensorType) -> int:
    """Bytes of one image."""
    return image_type.storage_type.list_size


def _to_items(items: pa.Array, item_type: pa.DataType) -> pa.Array:
    """A column's items as `item_type`, in whichever of Arrow's layouts they are stored."""
    if pa.types.is_string(item_type):
        return items.cast(item_type)
    if items.type != item_type:
        return pa.ExtensionArray.from_storage(item_type, items.storage)
    return items


def _leave_out_bad(
    batch: ItemBatch, columns: ItemColumns, bad_rows: BadRows, *, first_row: int
) -> ItemBatch:
    """The batch without the rows that cannot be used; `first_row` is that of its first one."""
    bad = {
        row: f"column {column!r} {reason}"
        for column, values in ((columns.group, batch.groups), (columns.item, batch.items))
        for row, reason in _find_bad(values).items()
    }
    if not bad:
        return batch
    for row in sorted(bad):
        bad_rows.reject(bad[row], row=first_row + row)
    is_good = np.ones(len(batch.items), np.bool_)
    is_good[list(bad)] = False
    return ItemBatch(*(values.filter(pa.array(is_good)) for values in batch))


def _find_bad(values: pa.Array) -> dict[int, str]:
    """Rows of a batch's column whose values cannot be used, and why."""
    if not pa.types.is_string(values.type):
        return dict.fromkeys(pc.indices_nonzero(values.is_null()).to_pylist(), "is null")
    is_encoded = is_utf8(values)
    bad = dict.fromkeys(np.flatnonzero(~is_encoded).tolist(), "is not UTF-8")
    if bad:
        values = pc.if_else(pa.array(is_encoded), values, "replaced")
    length = pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(values, "")))
    is_missing = pc.equal(length, 0)
    return bad | dict.fromkeys(pc.indices_nonzero(is_missing).to_pylist(), "is null or empty")


def _check_type(path: str, column: str, found: pa.DataType, wanted: str) -> None:
    """Raises UserError unless a column can be read as what is wanted of it."""
    value = found.value_type if pa.types.is_dictionary(found) else found
    if wanted == "image":
        holds = isinstance(found, pa.FixedShapeTensorType) and pa.types.is_uint8(found.value_type)
        rule = "an image column must be a fixed_shape_tensor of uint8"
    elif wanted == "text":
        holds, rule = is_text(found), "a text column must be of strings"
    else:
        holds, rule = (
            is_text(found) or pa.types.is_integer(value),
            "a group column must be of strings or integers",
        )
    if not holds:
        raise UserError(f"{path}, column {column!r}: {rule}. Received: {found}.")
