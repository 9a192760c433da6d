"""What the items of a column are, told from the column's Arrow type alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

Kind = Literal["text", "tokens", "image", "vector"]
TYPES_OF_ITEMS = (
    "text (string), images (fixed_shape_tensor, or PNG and JPEG files as binary or as a struct "
    "with a field `bytes`), ids of tokens (list of integers) or vectors (list of floats)"
)
"""What a column of items may hold, for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemColumn:
    """What a column of items holds, as plain values.

    Example:
        >>> str(ItemColumn.of(pa.list_(pa.float32(), 128)))
        'vectors of 128 float32'
        >>> ItemColumn.of(pa.float32()) is None
        True
    """

    kind: Kind
    shape: tuple[int, ...] = ()
    """Shape of one item; `()` where the type leaves it open."""
    dtype: str
    """NumPy's name of an item's numbers; `str` for text, `int` for ids of tokens in integers of any
    width, `bytes` for images as files."""

    @classmethod
    def of(cls, item: pa.DataType) -> ItemColumn | None:
        """What values of the Arrow type `item` are; None for a type that no model reads."""
        if is_text(item):
            return cls(kind="text", dtype="str")
        if isinstance(item, pa.FixedShapeTensorType):
            return cls(kind="image", shape=shape_of(item), dtype=_name_of_numbers(item.value_type))
        if is_file(item):
            return cls(kind="image", dtype="bytes")
        if is_list(item) and pa.types.is_integer(item.value_type):
            return cls(kind="tokens", dtype="int")
        if is_list(item) and pa.types.is_floating(item.value_type):
            shape = (item.list_size,) if pa.types.is_fixed_size_list(item) else ()
            return cls(kind="vector", shape=shape, dtype=_name_of_numbers(item.value_type))
        return None

    def find_difference(self, other: ItemColumn) -> tuple[str, object, object] | None:
        """The first fact in which two columns differ: its name, its value here, and there."""
        for name, fact in (("kind", "kind"), ("item_shape", "shape"), ("item_dtype", "dtype")):
            here, there = getattr(self, fact), getattr(other, fact)
            if here != there:
                return name, here, there
        return None

    def __str__(self) -> str:
        """The items, for people."""
        if self.kind == "text":
            return "text"
        if self.kind == "tokens":
            return "ids of tokens"
        if self.kind == "vector":
            return f"vectors of {self.shape[0] if self.shape else 'any number of'} {self.dtype}"
        if self.dtype == "bytes":
            return "images as files"
        return f"images of the shape {self.shape}, {self.dtype}"


class Sides(Protocol):
    """What the items of pairs are, on both sides."""

    @property
    def a(self) -> ItemColumn:
        """The items of the one side."""

    @property
    def b(self) -> ItemColumn:
        """The items of the other side."""


def describe_kinds(sides: Sides) -> str:
    """The kinds of items that pairs are of, for people: `text`, or `text and image`."""
    return " and ".join(dict.fromkeys([sides.a.kind, sides.b.kind]))


def is_text(item: pa.DataType) -> bool:
    """Whether values of type `item` are texts, in any of Arrow's layouts of them."""
    if pa.types.is_dictionary(item):  # What pandas makes of its categories.
        item = item.value_type
    return (
        pa.types.is_string(item) or pa.types.is_large_string(item) or pa.types.is_string_view(item)
    )


def is_file(item: pa.DataType) -> bool:
    """Whether values of type `item` are files: their bytes, or Hugging Face's struct with them."""
    if pa.types.is_struct(item):
        indices = item.get_all_field_indices("bytes")
        return len(indices) == 1 and is_file(item.field(indices[0]).type)
    return bool(
        pa.types.is_binary(item) or pa.types.is_large_binary(item) or pa.types.is_binary_view(item)
    )


def is_list(item: pa.DataType) -> bool:
    """Whether values of type `item` are lists, whose number of values the type may say or not."""
    return bool(
        pa.types.is_list(item) or pa.types.is_large_list(item) or pa.types.is_fixed_size_list(item)
    )


def shape_of(tensor: pa.FixedShapeTensorType) -> tuple[int, ...]:
    """Shape of one tensor of a type as a reader gives it."""
    permutation = tensor.permutation or range(len(tensor.shape))
    return tuple(tensor.shape[axis] for axis in permutation)


def _name_of_numbers(item: pa.DataType) -> str:
    """NumPy's name of an Arrow type; Arrow's own answer takes pandas in some versions."""
    return str(pa.array([], item).to_numpy(zero_copy_only=False).dtype.name)
