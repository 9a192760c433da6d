"""Groups of items, each once: from a column of items, or from both sides of pairs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.data import ItemReader, as_tf_dataset, read_items
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.unit.data.samples import codecs_for

ALPHABET = "item0123456789"


@pytest.fixture
def items(tmp_path):
    numbers = range(40)
    texts = [f"item{n % 39}" for n in numbers]  # The last is the first once more, of another group.
    table = pa.table({"group": [f"g{n % 7}" for n in numbers], "text": texts})
    pq.write_table(table, tmp_path / "1.parquet")
    return read_items(str(tmp_path), item="text", group="group")


def open_reader(items, *, rank=0, size=1, k=3, **options):
    return ItemReader(
        items,
        codec=codecs_for(items, ALPHABET).a,
        groups_per_batch=4,
        items_per_group=k,
        seed=0,
        world=World(rank=rank, size=size),
        **options,
    )


def test_each_item_comes_once_with_its_group_and_key(items):
    reader = open_reader(items)
    batches = list(reader.batches(1))
    assert len(batches) == reader.steps_per_epoch
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows.tolist()) == list(range(40))
    for batch in batches:
        np.testing.assert_array_equal(batch.group, batch.rows % 7)
        expected = reader.codecs.a.encode(items.items.take(pa.array(batch.rows))).values
        np.testing.assert_array_equal(batch.items, expected)
    key_of_row = dict(zip(rows, np.concatenate([batch.key for batch in batches]), strict=True))
    assert key_of_row[0] == key_of_row[39]
    assert len(set(key_of_row.values())) == 39


@pytest.mark.parametrize("size", [2, 3, 9])
@pytest.mark.parametrize("as_pairs", [False, True])
def test_the_items_of_all_ranks_are_those_of_one(items, size, as_pairs):
    options = {"as_pairs": as_pairs, "k": 2}
    alone = list(open_reader(items, **options).batches(2, 1))
    of_ranks = [
        list(open_reader(items, rank=rank, size=size, **options).batches(2, 1))
        for rank in range(size)
    ]
    for step, batch in enumerate(alone):
        for name in batch._fields:
            parts = [getattr(batches[step], name) for batches in of_ranks]
            rows = [batches[step].rows for batches in of_ranks]
            found = np.concatenate([p[r >= 0] for p, r in zip(parts, rows, strict=True)])
            np.testing.assert_array_equal(found, getattr(batch, name))
            assert all(len(part) for part in parts)  # Padding, where a rank has none.


def test_pairs_are_two_items_of_a_group(items):
    reader = open_reader(items, k=2, as_pairs=True)
    for x, y in as_tf_dataset(reader, lambda: (0, 0)):
        assert x.shape[1:] == (2, *reader.codecs.a.shape)
        assert y.shape == (len(x), 3)
        assert len(set(y[:, 0].numpy().tolist())) == len(y)
    seen = [batch.rows.reshape(-1, 2) % 7 for batch in reader.batches(0)]
    assert all((pair[:, 0] == pair[:, 1]).all() for pair in seen)
    with pytest.raises(UserError, match="Set items_per_group to 2"):
        open_reader(items, k=3, as_pairs=True)


def test_they_feed_a_model_step_by_step(items):
    reader = open_reader(items, rank=1, size=2)
    told: dict[int, int] = {}
    steps = list(as_tf_dataset(reader, lambda: (3, 1), on_batch=told.__setitem__))
    batches = list(reader.batches(3, 1))
    assert len(steps) == len(batches)
    for number, ((x, y), batch) in enumerate(zip(steps, batches, strict=True), 1):
        np.testing.assert_array_equal(x, batch.items)
        np.testing.assert_array_equal(y, np.stack([batch.group, batch.key], axis=1))
        assert told[number] == len(batch.rows)


def test_a_rank_without_items_has_no_samples(items):
    reader = open_reader(items, rank=0, size=9)
    told: dict[int, int] = {}
    groups = [
        y[:, 0].numpy() for _, y in as_tf_dataset(reader, lambda: (0, 0), on_batch=told.__setitem__)
    ]
    assert any((group == -1).all() for group in groups)
    assert [told[step] for step in range(len(groups))] == [int((g >= 0).sum()) for g in groups]


def test_the_items_of_pairs_come_each_once(tmp_path):
    table = {"a": ["x", "y", "x"], "group_a": [1, 1, 2], "b": ["z", "x", "y"], "label": [0, 1, 0]}
    pq.write_table(pa.table(table | {"group_b": [3, 1, 3]}), tmp_path / "1.parquet")
    items = read_items(str(tmp_path), item="text", group="group")
    found = zip(np.asarray(items.items).tolist(), items.group_of_item.tolist(), strict=True)
    assert sorted(found) == [("x", 0), ("x", 1), ("y", 0), ("y", 2), ("z", 2)]


def test_vectors_of_pairs_come_each_once(tmp_path):
    """The schema of Parquet names what lists hold, and not their columns."""
    sides = {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[3.0, 4.0], [1.0, 2.0]]}
    table = {side: pa.array(vectors, pa.list_(pa.float32(), 2)) for side, vectors in sides.items()}
    table |= {"group_a": pa.array([1, 2]), "group_b": pa.array([2, 1]), "label": pa.array([0, 0])}
    pq.write_table(pa.table(table), tmp_path / "1.parquet")
    items = read_items(str(tmp_path), item="text", group="group")
    assert np.asarray(items.items).tolist() == sides["a"]


def test_pairs_that_do_not_say_whose_items_they_have_are_refused(tmp_path):
    pq.write_table(pa.table({"a": ["x"], "b": ["y"], "label": [1]}), tmp_path / "1.parquet")
    with pytest.raises(UserError, match="pairs without the columns group_a and group_b"):
        read_items(str(tmp_path), item="text", group="group")
