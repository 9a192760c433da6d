"""Shard actors give each trainer the items that it would hold itself, dead or alive."""

import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from sharedlayers_dist.data import ItemReader, PKReader, TextCodec, read_items
from sharedlayers_dist.data.reading.item_loader import LocalItemLoader
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.reading.shard_items import ShardItemLoader
from sharedlayers_dist.ray.reading.shard_requests import start_shard_actors
from sharedlayers_dist.world import World
from tests.distributed.ray.test_shard_reader import process_of, stop
from tests.unit.data.items.samples import SAMPLES
from tests.unit.data.reading.test_reader import ItemSource, ReaderContract, assert_same

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def actors():
    """Actors for all tests that leave them alive."""
    started = start_shard_actors(3)
    yield started
    stop(started)


@pytest.fixture
def own_actors():
    """Two actors for a test that kills them."""
    started = start_shard_actors(2)
    yield started
    stop(started)


def write_items(folder, column, *, files=3):
    """Writes 30 items a file in row groups of 7, of 9 groups in all."""
    folder.mkdir(exist_ok=True)
    for number in range(files):
        rows = np.arange(30) + 30 * number
        items = column.take(pa.array(rows % len(column)))
        table = pa.table({"item": items, "who": rows % 9})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=7)
    return str(folder)


def read(folder, codec=None):
    return read_items(folder, item="item", group="who", codec=codec)


def open_reader(items, world, open_items=LocalItemLoader, kind=ItemReader):
    return kind(
        items,
        codec=items.codec,
        groups_per_batch=4,
        items_per_group=2,
        seed=3,
        world=world,
        open_items=open_items,
    )


class TestPKReaderOnActors(ReaderContract):
    @pytest.fixture
    def source(self, actors, tmp_path):
        return ItemSource(tmp_path, partial(ShardItemLoader, actors, items_at_once=8))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_items_of_every_kind_are_those_that_are_held_here(actors, tmp_path, sample):
    items = read(write_items(tmp_path, sample.column), sample.codec)
    for num_actors, size, items_at_once in ((1, 1, 1), (3, 2, 20), (2, 13, 500)):
        open_items = partial(ShardItemLoader, actors[:num_actors], items_at_once=items_at_once)
        for rank in {0, size - 1}:
            world = World(rank=rank, size=size)
            reader, own = open_reader(items, world, open_items), open_reader(items, world)
            assert_same(reader.batches(1, 2), own.batches(1, 2))


def test_all_trainers_share_what_an_actor_holds(actors, tmp_path):
    sample = SAMPLES[0]
    items = read(write_items(tmp_path, sample.column), sample.codec)
    loaders = [ShardItemLoader(actors, items, sample.codec) for _ in range(2)]
    before = count_mapped(actors[0])
    for loader in loaders:
        list(loader.load([np.arange(90)]))
    once = count_mapped(actors[0])
    list(loaders[1].load([np.arange(40)]))
    assert before < once == count_mapped(actors[0])
    assert "items" not in items.__dict__  # The trainer holds none.


def count_mapped(actor):
    """How many files without a name an actor has mapped."""

    def count(_):
        with open("/proc/self/maps") as lines:
            return sum("(deleted)" in line and "/tmp" in line for line in lines)

    return ray.get(actor.__ray_call__.remote(count))


def test_an_actor_killed_in_mid_epoch_leaves_the_order_as_it_is(own_actors, tmp_path):
    sample = SAMPLES[0]
    items = read(write_items(tmp_path, sample.column), sample.codec)
    open_items = partial(ShardItemLoader, own_actors, items_at_once=8)
    reader = open_reader(items, World(), open_items, PKReader)
    own = list(open_reader(items, World(), kind=PKReader).batches(0))
    with reader.batches(0) as batches:
        found = [next(batches) for _ in range(2)]
        victim = process_of(own_actors[0])
        os.kill(victim, signal.SIGKILL)
        found += batches
    assert process_of(own_actors[0]) != victim
    assert_same(found, own)


def test_other_items_than_were_read_first_are_the_trainers_error(actors, tmp_path):
    sample = SAMPLES[0]
    folder = write_items(tmp_path / "items", sample.column)
    items = read(folder, sample.codec)
    table = pq.read_table(tmp_path / "items" / "1.parquet")
    swapped = pa.array([*range(7), 8, 7, *range(9, 30)])
    pq.write_table(table.take(swapped), tmp_path / "items" / "1.parquet", row_group_size=7)
    reader = open_reader(items, World(), partial(ShardItemLoader, actors))
    with pytest.raises(UserError, match=r"All ranks .*1.parquet, row group 1 ") as raised:
        list(reader.batches(0))
    assert type(raised.value) is UserError
    assert reader.stats.error is raised.value


@dataclass(frozen=True, kw_only=True)
class FatalCodec(TextCodec):
    """Ends its process when it reads one text, as want of memory does; notes each time."""

    harmless_process: int
    noted: str

    def read(self, column):
        if os.getpid() != self.harmless_process and "fatal" in column.to_pylist():
            with Path(self.noted).open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(column)


@pytest.mark.slow
def test_a_row_group_that_ends_each_process_is_named(own_actors, tmp_path):
    noted = tmp_path / "noted"
    codec = FatalCodec(length=3, alphabet_size=2, harmless_process=os.getpid(), noted=str(noted))
    texts = pa.array([*(f"t{n}" for n in range(16)), "fatal", *(f"t{n}" for n in range(73))])
    items = read(write_items(tmp_path / "items", texts, files=1), codec)
    reader = open_reader(items, World(), partial(ShardItemLoader, own_actors[:1]))
    with pytest.raises(UserError, match=r"0.parquet, row group 2, with 7 rows") as told:
        list(reader.batches(0))
    assert f"has ended a process {noted.stat().st_size} times" in str(told.value)
