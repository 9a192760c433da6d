"""What the items of files become in a pair dataset, how much they take, and which are bad."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sharedlayers_dist.data.items.characters import is_utf8
from sharedlayers_dist.data.items.choosing import choose_plain_codec
from sharedlayers_dist.data.items.codec import BadItems, ItemCodec
from sharedlayers_dist.data.items.column import (
    TYPES_OF_ITEMS,
    ItemColumn,
    is_file,
    is_list,
    is_text,
)
from sharedlayers_dist.data.items.vectors import VectorListCodec
from sharedlayers_dist.errors import UserError


class ItemForm(NamedTuple):
    """The form in which items of all files are written.

    Example:
        >>> form = ItemForm.of(pa.list_(pa.float32()), vector_size=2)
        >>> column = pa.array([[1.0, 2.0], [3.0], None], pa.list_(pa.float32()))
        >>> form.find_bad(column)
        {1: 'has 1 numbers and must have 2', 2: 'is null'}
        >>> print(form.convert(column[:1]).type)
        fixed_size_list<item: float>[2]
    """

    item_type: pa.DataType
    """Arrow type of the items in a pair dataset."""
    codec: ItemCodec
    """What looks at them as a reader would, for no model."""

    @classmethod
    def of(cls, found: pa.DataType, vector_size: int = 0) -> ItemForm:
        """The form of items that are stored as `found`, which must hold items.

        Args:
            found: Arrow type of a column.
            vector_size: Numbers of each vector, where the type of its lists leaves it open.

        Raises:
            UserError: for a type that holds no items.
        """
        column = ItemColumn.of(found)
        if column is None:
            raise UserError(f"Items must be {TYPES_OF_ITEMS}. Received: {found}.")
        if column.kind == "vector":
            size = column.shape[0] if column.shape else vector_size
            codec = VectorListCodec(size=size, dtype=column.dtype)
            return cls(pa.list_(found.value_type, size), codec)
        return cls(_written_type(found), choose_plain_codec(column))

    def find_bad(self, items: pa.Array) -> BadItems:
        """The values of a column that make no item, by their places, and why.

        Files of images are decoded to see whether they can be.

        Args:
            items: Values as they are stored, in any of Arrow's layouts of this form.
        """
        if pa.types.is_string(self.item_type):
            return find_bad_texts(items.cast(self.item_type))
        held = self.codec.read(pa.chunked_array([items]))
        bad = dict(self.codec.find_bad(held, thoroughly=True))
        if isinstance(held, pa.Array) and pa.types.is_large_list(held.type):
            is_empty = pc.equal(held.value_lengths(), 0)
            bad |= dict.fromkeys(pc.indices_nonzero(is_empty).to_pylist(), "is empty")
        return bad | dict.fromkeys(pc.indices_nonzero(items.is_null()).to_pylist(), "is null")

    def convert(self, items: pa.Array) -> pa.Array:
        """Values of a column, without bad ones among them, as they are written."""
        if items.type == self.item_type:
            return items
        if isinstance(self.item_type, pa.FixedShapeTensorType):
            return pa.ExtensionArray.from_storage(self.item_type, items.storage)
        if pa.types.is_fixed_size_list(self.item_type):
            return pa.FixedSizeListArray.from_arrays(items.flatten(), type=self.item_type)
        if pa.types.is_struct(items.type):
            items = pc.struct_field(items, "bytes")
        return items.cast(self.item_type)


def agree_on_type(found: Mapping[str, pa.DataType]) -> pa.DataType:
    """The type of the items of several files; ids of tokens may be of several widths.

    Args:
        found: What the column of the items holds, by the paths of the files; none is empty.

    Raises:
        UserError: where files differ; names two of them.

    Example:
        >>> agree_on_type({"1.parquet": pa.list_(pa.int16()), "2.parquet": pa.list_(pa.int32())})
        ListType(list<item: int64>)
    """
    first_path, first = next(iter(found.items()))
    column, written = ItemColumn.of(first), _written_type(first)
    agreed = written
    for path, item in found.items():
        is_other = _written_type(item) != written
        are_ids = column is not None and column.kind == "tokens" and ItemColumn.of(item) == column
        if is_other and not are_ids:
            raise UserError(
                "All files of items must hold the same. Received: "
                f"{first_path} holds {first}, {path} holds {item}."
            )
        if is_other:
            agreed = pa.list_(pa.int64())
    return agreed


def count_bytes(items: pa.Array) -> int:
    """Bytes of the contents of items, however Arrow lays them out.

    Example:
        >>> count_bytes(pa.array(["ab", "c"])), count_bytes(pa.array([[1], [2, 3]]))
        (3, 24)
    """
    if isinstance(items, pa.ExtensionArray):
        items = items.storage
    if is_list(items.type):
        return len(items.flatten()) * bytes_per_value(items.type)
    return int(pc.sum(pc.binary_length(items)).as_py() or 0)


def bytes_per_value(item_type: pa.DataType) -> int:
    """Bytes of each number of an item, or of each byte of a text or a file: 1."""
    if isinstance(item_type, pa.BaseExtensionType):
        item_type = item_type.storage_type
    return max(1, item_type.value_type.bit_width // 8) if is_list(item_type) else 1


def find_bad_texts(texts: pa.Array) -> BadItems:
    """The texts that are null, empty, or not UTF-8, by their places, and why."""
    is_encoded = is_utf8(texts)
    bad = dict.fromkeys(np.flatnonzero(~is_encoded).tolist(), "is not UTF-8")
    if bad:
        texts = pc.if_else(pa.array(is_encoded), texts, "replaced")
    length = pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(texts, "")))
    is_missing = pc.equal(length, 0)
    return bad | dict.fromkeys(pc.indices_nonzero(is_missing).to_pylist(), "is null or empty")


def _written_type(found: pa.DataType) -> pa.DataType:
    """The type that pair datasets have for items of a column, whatever the names within it."""
    if is_text(found):
        return pa.string()
    if is_file(found):
        return pa.binary()
    if isinstance(found, pa.FixedShapeTensorType):
        return pa.fixed_shape_tensor(found.value_type, found.shape, permutation=found.permutation)
    if pa.types.is_fixed_size_list(found):
        return pa.list_(found.value_type, found.list_size)
    return pa.list_(found.value_type)
