"""What becomes of items of every type, and which of them are refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.making.item_types import (
    ItemForm,
    agree_on_type,
    bytes_per_value,
    count_bytes,
)
from sharedlayers_dist.errors import UserError

TENSOR = pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0])
NAMED = pa.list_(pa.field("element", pa.int32(), nullable=False))


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        (pa.large_string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (pa.large_list(pa.uint16()), pa.list_(pa.uint16())),
        (NAMED, pa.list_(pa.int32())),
        (pa.list_(pa.int64(), 5), pa.list_(pa.int64(), 5)),
        (pa.large_binary(), pa.binary()),
        (pa.struct({"bytes": pa.binary(), "path": pa.string()}), pa.binary()),
        (TENSOR, TENSOR),
        (pa.list_(pa.float16(), 7), pa.list_(pa.float16(), 7)),
        (pa.list_(pa.float64()), pa.list_(pa.float64(), 9)),
        (pa.large_list(pa.float32()), pa.list_(pa.float32(), 9)),
    ],
    ids=str,
)
def test_each_kind_of_items_has_one_type_in_pairs(stored, written):
    assert ItemForm.of(stored, vector_size=9).item_type == written


@pytest.mark.parametrize("stored", [pa.float32(), pa.list_(pa.string()), pa.null()], ids=str)
def test_other_types_are_refused(stored):
    with pytest.raises(UserError, match="Items must be text"):
        ItemForm.of(stored)


@pytest.mark.parametrize(
    ("types", "agreed"),
    [
        ([pa.string(), pa.large_string()], pa.string()),
        ([pa.list_(pa.int16()), pa.large_list(pa.int16())], pa.list_(pa.int16())),
        ([pa.list_(pa.int16()), NAMED, pa.list_(pa.int8(), 4)], pa.list_(pa.int64())),
        ([pa.binary(), pa.struct({"bytes": pa.large_binary()})], pa.binary()),
        ([pa.list_(pa.float32()), pa.large_list(pa.float32())], pa.list_(pa.float32())),
        ([pa.list_(pa.float32()), pa.list_(pa.float64())], None),
        ([pa.list_(pa.float32()), pa.list_(pa.float32(), 3)], None),
        ([pa.list_(pa.int32()), pa.string()], None),
        ([TENSOR, pa.fixed_shape_tensor(pa.float32(), (3, 2))], None),
        ([TENSOR, pa.fixed_shape_tensor(pa.float64(), (2, 3), permutation=[1, 0])], None),
    ],
    ids=str,
)
def test_files_must_hold_the_same_but_ids_may_be_of_several_widths(types, agreed):
    found = {f"{number}.parquet": item for number, item in enumerate(types)}
    if agreed is not None:
        assert agree_on_type(found) == agreed
        return
    with pytest.raises(UserError, match=r"must hold the same.* 0\.parquet .*, 1\.parquet "):
        agree_on_type(found)


def test_bytes_are_counted_however_items_are_laid_out():
    tensors = pa.ExtensionArray.from_storage(
        TENSOR, pa.array([[0.0] * 6] * 5, pa.list_(pa.float32(), 6))
    )
    assert (count_bytes(tensors), count_bytes(tensors[1:3])) == (120, 48)
    assert count_bytes(pa.array([[1], [], [2, 3]], pa.list_(pa.int16()))) == 6
    assert count_bytes(pa.array([b"abc", b""])) == count_bytes(pa.array(["ab", "c"])) == 3
    assert count_bytes(pa.array([], pa.string())) == 0
    assert [bytes_per_value(x) for x in (TENSOR, NAMED, pa.binary(), pa.string())] == [4, 4, 1, 1]


@pytest.mark.parametrize(
    "items",
    [
        pa.array([[1, 2], [1], [], [1, 2]], pa.list_(pa.int16())),
        pa.array([[1, 2], [2, 1], [0, 0], [1, 2]], pa.list_(pa.int64(), 2)),
        pa.array([[1, 2], [2, 1], [0, 0], [1, 2]], pa.list_(pa.float32(), 2)),
        pa.array([b"\xff A", b"\xff  A", b"\xff a", b"\xff A"], pa.binary()),
    ],
    ids=lambda items: str(items.type),
)
def test_items_that_are_no_texts_are_the_same_byte_for_byte_in_slices_too(items):
    keys = content_keys(items)
    assert [keys.tolist().index(key) for key in keys] == [0, 1, 2, 0]
    assert np.array_equal(content_keys(items[1:]), keys[1:])
    assert len(content_keys(items[:0])) == 0
