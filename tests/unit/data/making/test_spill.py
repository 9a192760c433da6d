"""Items that are spilled for a part come back, however many bytes they are."""

import numpy as np
import pyarrow as pa
import pytest

from sharedlayers_dist.data.making.items import ArrayItems
from sharedlayers_dist.data.making.spill import plan_needed, spill_items, take_part


@pytest.mark.parametrize(
    ("items", "spilled"),
    [
        (pa.array(["a", "bc", "d"]), pa.large_string()),
        (pa.array([b"a", b"bc", b"d"]), pa.large_binary()),
        (pa.array([[1], [2, 3], []], pa.list_(pa.int16())), pa.large_list(pa.int16())),
        (pa.array([[1, 2], [2, 3], [4, 5]], pa.list_(pa.float32(), 2)), None),
    ],
    ids=lambda items: str(items and items.type) if isinstance(items, pa.Array) else None,
)
def test_a_part_may_be_larger_than_32_bits_can_tell(tmp_path, items, spilled):
    source = ArrayItems(items, pa.array(["x"] * 3))
    needed = plan_needed([np.array([2, 0, 2]), np.array([1])])
    list(spill_items(tmp_path, needed, source, np.ones(3, int), lambda num_items: None))
    numbers, taken = take_part(tmp_path, 0)
    assert numbers.tolist() == [0, 2]
    assert taken.to_pylist() == items.take(pa.array([0, 2])).to_pylist()
    assert taken.type == (spilled or items.type)
