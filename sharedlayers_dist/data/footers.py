"""The footer of one file of a pair dataset, and whether files can be one dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sharedlayers_dist.data.damage import DamageError, read_file
from sharedlayers_dist.data.files import FoundFile, read_parquet_metadata, suggest_column
from sharedlayers_dist.data.items.column import TYPES_OF_ITEMS, ItemColumn
from sharedlayers_dist.data.schema import PairMetadata, read_metadata
from sharedlayers_dist.errors import UserError, one_line


class Footer(NamedTuple):
    """What is read of a file's footer."""

    row_counts: tuple[int, ...]
    """Rows of each row group."""
    schema: pa.Schema
    metadata: PairMetadata | None
    labels: tuple[int, int] | None = None
    """The least label of the file and the greatest, where its statistics say them."""

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return sum(self.row_counts)


def read_footer(filesystem: fs.FileSystem, file: FoundFile) -> Footer:
    """Reads a file's footer.

    Raises:
        UserError: for a file that is no whole Parquet file, is gone or may not be read.
        StorageError: where the storage fails.
    """
    try:
        metadata = read_file(filesystem, file.path, read_parquet_metadata, place=file.path)
    except DamageError as e:
        raise _unreadable(file, e) from e
    try:
        row_counts = tuple(
            metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)
        )
        schema = metadata.schema.to_arrow_schema()
        labels = _range_of_labels(metadata) if has_label(schema) else None
        return Footer(row_counts, schema, read_metadata(schema), labels)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise _unreadable(file, e) from e


def _range_of_labels(metadata: pq.FileMetaData) -> tuple[int, int] | None:
    names = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
    column = names.index("label")
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    found = [group.column(column).statistics for group in groups if group.num_rows]
    if not all(found):
        return None
    of_labels = [s for s in found if s.num_values]  # Others hold nulls alone.
    if not of_labels or not all(s.has_min_max for s in of_labels):
        return None
    return int(min(s.min for s in of_labels)), int(max(s.max for s in of_labels))


def _unreadable(file: FoundFile, error: Exception) -> UserError:
    reason = one_line(error).rstrip(".")
    return UserError(
        f"{file.path} cannot be read as Parquet ({file.size} bytes): {reason}. Write it anew."
    )


def check_columns(name: str, footer: Footer, *, requires_label: bool) -> None:
    """Refuses a file whose columns are not those of pairs; see `index_dataset`.

    Raises:
        UserError: in one line that names the file and its columns.
    """
    schema = footer.schema
    columns = f"Its columns: {', '.join(f'{f.name!r} ({_type_name(f.type)})' for f in schema)}."
    for column in ("a", "b", *(["label"] if requires_label else [])):
        if len(schema.get_all_field_indices(column)) != 1:
            hint = suggest_column(name, column, schema.names)
            raise UserError(f"{name} needs one column named {column!r}. {columns}{hint}")
    for column in ("label", "weight", "group_a", "group_b") if requires_label else ():
        if len(schema.get_all_field_indices(column)) > 1:
            raise UserError(f"{name} must have at most one column named {column!r}. {columns}")
    a, b = (ItemColumn.of(schema.field(side).type) for side in "ab")
    if a is None or b is None:
        side = "a" if a is None else "b"
        raise UserError(f"{name}: column {side!r} must hold {TYPES_OF_ITEMS}. {columns}")
    if footer.metadata is not None and footer.metadata.kind != a.kind:
        raise UserError(
            f"{name}: its metadata must fit its columns. Received: kind={footer.metadata.kind!r}. "
            f"{columns}"
        )
    if requires_label and not has_label(schema):
        raise UserError(f"{name}: column 'label' must be of an integer type or bool. {columns}")
    if requires_label and "weight" in schema.names:
        weight = schema.field("weight").type
        if not (pa.types.is_integer(weight) or pa.types.is_floating(weight)):
            raise UserError(f"{name}: column 'weight' must hold numbers. {columns}")


def has_label(schema: pa.Schema) -> bool:
    """Whether there is one column of labels."""
    if len(schema.get_all_field_indices("label")) != 1:
        return False
    label = schema.field("label").type
    return bool(pa.types.is_integer(label) or pa.types.is_boolean(label))


def find_only_label(footers: Iterable[Footer]) -> int | None:
    """The label of all rows, where the footers say that they have one alone."""
    ranges = {footer.labels for footer in footers}
    if len(ranges) != 1:
        return None
    (labels,) = ranges
    return labels[0] if labels is not None and labels[0] == labels[1] else None


def describe_columns(schema: pa.Schema, *, requires_label: bool) -> dict[str, Any]:
    """Fields of `DatasetIndex` that follow from the columns."""
    return {
        **{side: ItemColumn.of(schema.field(side).type) for side in "ab"},
        "has_weight": requires_label and "weight" in schema.names,
        "has_groups": requires_label and {"group_a", "group_b"} <= set(schema.names),
    }


def check_agreement(
    first_name: str, first: Footer, name: str, footer: Footer, *, requires_label: bool
) -> None:
    """Refuses files that cannot be one dataset; the names and bounds of text types may differ.

    Raises:
        UserError: in one line that names both files.
    """
    ours, theirs = (
        describe_columns(schema, requires_label=requires_label)
        for schema in (first.schema, footer.schema)
    )
    of_training = ((first.metadata, ours), (footer.metadata, theirs)) if requires_label else ()
    for metadata, facts in of_training:
        facts["alphabet"] = metadata.alphabet if metadata else None
        facts["run_length"] = metadata.run_length if metadata else 1
    differences = [
        (*different, f"column {side!r} of ")
        for side in "ab"
        if (different := theirs.pop(side).find_difference(ours.pop(side)))
    ]
    differences += [
        (fact, value, ours[fact], "") for fact, value in theirs.items() if value != ours[fact]
    ]
    for fact, value, first_value, column in differences:
        raise UserError(
            f"All files of a dataset must agree. Received: {fact}={value!r} in {column}{name}, "
            f"{fact}={first_value!r} in {column}{first_name}."
        )


def _type_name(item: pa.DataType) -> str:
    if isinstance(item, pa.FixedShapeTensorType):
        return f"fixed_shape_tensor of {item.value_type}, shape {list(item.shape)}"
    return str(item)
