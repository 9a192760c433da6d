"""What Arrow's types say of items."""

import pyarrow as pa
import pytest

from sharedlayers_dist.data import ItemColumn

TENSOR = pa.fixed_shape_tensor(pa.uint8(), (3, 4, 2), permutation=[1, 2, 0])
FILE = {"bytes": pa.binary(), "path": pa.string()}


@pytest.mark.parametrize(
    ("item", "described"),
    [
        (pa.string(), "text"),
        (pa.large_string(), "text"),
        (pa.string_view(), "text"),
        (pa.dictionary(pa.int8(), pa.string()), "text"),
        (pa.list_(pa.int32()), "ids of tokens"),
        (pa.large_list(pa.uint8()), "ids of tokens"),
        (pa.list_(pa.int64(), 7), "ids of tokens"),
        (TENSOR, "images of the shape (4, 2, 3), uint8"),
        (pa.fixed_shape_tensor(pa.float32(), (5,)), "images of the shape (5,), float32"),
        (pa.binary(), "images as files"),
        (pa.large_binary(), "images as files"),
        (pa.struct(FILE), "images as files"),
        (pa.struct({"path": pa.string(), "bytes": pa.large_binary()}), "images as files"),
        (pa.list_(pa.float16(), 8), "vectors of 8 float16"),
        (pa.list_(pa.float64(), 1), "vectors of 1 float64"),
        (pa.list_(pa.float32()), "vectors of any number of float32"),
        (pa.large_list(pa.float16()), "vectors of any number of float16"),
    ],
    ids=str,
)
def test_items_are_told_by_their_type(item, described):
    assert str(ItemColumn.of(item)) == described


@pytest.mark.parametrize(
    "item",
    [
        pa.int64(),
        pa.float32(),
        pa.list_(pa.string()),
        pa.list_(pa.bool_(), 2),
        pa.struct({"path": pa.string()}),
        pa.struct({"bytes": pa.string()}),
        pa.dictionary(pa.int8(), pa.int64()),
        pa.null(),
    ],
    ids=str,
)
def test_other_types_hold_no_items(item):
    assert ItemColumn.of(item) is None
