"""Items in files of the process, as they were in memory."""

import gc
import resource

import numpy as np
import pyarrow as pa
import pytest

from sharedlayers_dist.data.items.codec import take_items
from sharedlayers_dist.data.reading.item_store import store_items
from sharedlayers_dist.errors import UserError
from tests.unit.data.items.samples import SAMPLES


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_items_of_every_kind_are_what_they_were(sample):
    held = sample.codec.read(pa.chunked_array([sample.table(40)["a"].combine_chunks()]))
    stored = store_items([sample.codec.blanks(0), held[3:5], held[5:5], held[5:30], held[30:]])
    order = np.random.default_rng(0).permutation(37)
    assert len(stored) == 37
    assert type(stored) is type(held)
    found, expected = take_items(stored, order), take_items(held, order + 3)
    if isinstance(stored, pa.Array):
        stored.validate(full=True)
        assert pa.array(found).equals(pa.array(expected))
    else:
        assert stored.dtype == held.dtype
    values = sample.codec.encode(found).values
    np.testing.assert_array_equal(values, sample.codec.encode(expected).values)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_no_items_at_all(sample):
    stored = store_items([sample.codec.blanks(0)])
    assert sample.codec.encode(stored).values.shape == (0, *sample.codec.shape)


def test_the_items_are_in_no_memory_of_the_process():
    before = _own_kilobytes()
    stored = store_items(np.ones((1000, 10_000), np.float32) for _ in range(5))
    gc.collect()
    assert stored.nbytes == 200_000_000
    assert stored[::100].sum() == 500_000
    assert _own_kilobytes() - before < 60_000  # One part, and what Python keeps.


def _own_kilobytes():
    """Memory that no file stands behind, so that the system takes it back by swapping alone."""
    with open("/proc/self/smaps_rollup") as lines:
        (size,) = [line.split()[1] for line in lines if line.startswith("Anonymous:")]
    return int(size)


def test_a_disk_without_room_is_said():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(UserError, match=r"Received: .*too large.*Set TMPDIR"):
            store_items([np.zeros((1 << 20, 1), np.float32)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
