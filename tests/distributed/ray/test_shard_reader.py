"""Shard actors give each trainer the batches that it would read itself, dead or alive."""

import os
import signal
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from pyarrow import fs

from sharedlayers_dist import World
from sharedlayers_dist.data import (
    CacheOptions,
    OrderOptions,
    PairCodecs,
    PairReader,
    PairReading,
    index_dataset,
)
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.reading.shard_reader import ShardReader
from sharedlayers_dist.ray.reading.shard_requests import start_shard_actors
from tests.object_store import make_bucket, make_uri
from tests.unit.data.items.samples import SAMPLES
from tests.unit.data.reading.test_reader import PairSource, ReaderContract, assert_same
from tests.unit.data.samples import codecs_for, with_column, write_dataset

ALPHABET = "abcdefghij0123456789"
NUM_STREAMS = 12
ROW_COUNTS = [[13, 0, 40], [1, 29, 50], [77]]
NUM_ROWS = 210

pytestmark = pytest.mark.usefixtures("ray_cluster")


def read_from(pairs, *, batch_size=32, shuffle=True, kind=PairReading, **options):
    """A reading of the dataset `pairs`."""
    index = index_dataset(pairs)
    return kind(
        index=index,
        codecs=codecs_for(index, ALPHABET),
        options=OrderOptions(
            seed=3, batch_size=batch_size, num_streams=NUM_STREAMS, shuffle=shuffle
        ),
        **options,
    )


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("texts"), ROW_COUNTS)


@pytest.fixture(scope="module")
def actors():
    """Actors for all tests that leave them alive."""
    started = start_shard_actors(5)
    yield started
    stop(started)


@pytest.fixture
def own_actors():
    """Two actors for a test that kills them."""
    started = start_shard_actors(2)
    yield started
    stop(started)


def stop(actors):
    for actor in actors:
        ray.kill(actor)


def on_actors(actors, reading, world, *, rows_at_once=32):
    """Reads by actors, in more requests than so few pairs take by default."""
    return ShardReader(actors, reading, world, rows_at_once=rows_at_once)


class TestShardReader(ReaderContract):
    @pytest.fixture
    def source(self, actors, tmp_path):
        return PairSource(
            tmp_path, lambda reading, world: on_actors(actors[:3], reading, world, rows_at_once=8)
        )


def process_of(actor):
    """The process id of an actor that is alive."""
    return ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))


@pytest.mark.parametrize("num_trainers", [1, 2, 3])
@pytest.mark.parametrize("num_actors", [1, 2, 3, 5])
def test_batches_are_those_of_reading_in_process(actors, texts, num_actors, num_trainers):
    # 210 pairs, so that 32, 100 and 11 leave a short last batch, in which a part may have no row.
    for batch_size, epoch, start_step, rows_at_once in (
        (32, 0, 0, 1),
        (32, 1, 4, 100),
        (100, 0, 2, 500),
        (11, 2, 1, 40),
    ):
        reading = read_from(texts, batch_size=batch_size)
        for rank in range(num_trainers):
            world = World(rank=rank, size=num_trainers)
            reader = on_actors(actors[:num_actors], reading, world, rows_at_once=rows_at_once)
            own = reading.open(world)
            assert reader.steps_per_epoch == own.steps_per_epoch
            assert_same(reader.batches(epoch, start_step), own.batches(epoch, start_step))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_items_of_every_kind_are_read(actors, tmp_path, sample):
    table = sample.table(60)
    for number, reason in enumerate(sample.bad):
        table = sample.with_bad_row(table, 7 * number, sample.bad[reason])
    pq.write_table(table, tmp_path / "0.parquet", row_group_size=9)
    reading = PairReading(
        index=index_dataset(str(tmp_path)),
        codecs=PairCodecs(sample.codec, sample.codec),
        options=OrderOptions(seed=3, batch_size=8, num_streams=NUM_STREAMS),
        on_bad_row="skip",
    )
    world = World(rank=1, size=2)
    reader, own = on_actors(actors[:3], reading, world), reading.open(world)
    assert_same(reader.batches(0), own.batches(0))
    assert reader.stats.problems == own.stats.problems
    assert reader.stats.num_bad_rows == own.stats.num_bad_rows


def test_actors_keep_row_groups_of_an_object_store(actors, texts, object_store, tmp_path):
    store = make_bucket("actors", object_store)
    fs.copy_files(texts, "actors/texts", destination_filesystem=store)
    cache = CacheOptions(folder=str(tmp_path / "copies"), max_bytes=10**9)
    far = read_from(make_uri("actors/texts", object_store), cache=cache)
    reader = on_actors(actors[:3], far, World())
    for epoch in range(3):
        assert_same(reader.batches(epoch), read_from(texts).open(World()).batches(epoch))
    assert reader.stats.cache["found"] > 0
    assert reader.stats.cache.keys() <= {"found", "missing"}
    assert len(os.listdir(cache.folder)) == 6


def test_a_cache_that_an_actor_cannot_write_to_is_a_users_mistake(actors, texts, tmp_path):
    (tmp_path / "file").write_text("")
    cache = CacheOptions(folder=str(tmp_path / "file" / "copies"), max_bytes=10**9)
    reader = on_actors(actors[:1], read_from(texts, cache=cache), World())
    with pytest.raises(UserError, match="must be a folder that can be written to"):
        next(reader.batches(0))


def test_a_part_without_rows_gives_padding_only_where_no_part_has_any(actors, tmp_path):
    reading = read_from(write_dataset(tmp_path, [[2]]), batch_size=8)
    for rank in range(2):
        world = World(rank=rank, size=2)
        batches = list(on_actors(actors[:4], reading, world).batches(0))
        assert_same(batches, reading.open(world).batches(0))
        assert [batch.rows.size for batch in batches] == [1]
    world = World(rank=2, size=3)
    (padding,) = on_actors(actors[:3], reading, world).batches(0)
    assert (padding.label.item(), padding.weight.item(), padding.rows.item()) == (-1, 0, -1)


def test_more_actors_than_streams_leave_some_without_work(texts, actors):
    reading = read_from(texts)
    reader = on_actors(actors * 3, reading, World())
    assert_same(reader.batches(0), reading.open(World()).batches(0))


def test_the_trainer_may_stop_and_go_on_anywhere(actors, texts):
    reading = read_from(texts, batch_size=5)
    reader, own = on_actors(actors[:2], reading, World()), reading.open(World())
    for epoch, start_step, num_steps in ((0, 0, 3), (0, 3, 4), (0, 2, 1), (1, 41, 1), (0, 30, 12)):
        with reader.batches(epoch, start_step) as batches, own.batches(epoch, start_step) as wanted:
            assert_same(
                [next(batches) for _ in range(num_steps)], [next(wanted) for _ in range(num_steps)]
            )


def test_more_trainers_than_streams_are_an_error(actors, texts):
    with pytest.raises(ValueError, match=f"num_streams={NUM_STREAMS}"):
        on_actors(actors, read_from(texts), World(rank=0, size=13))


def test_readers_and_trainers_share_actors(actors, texts, tmp_path):
    other = write_dataset(tmp_path, [[30, 30]])
    readings = [read_from(texts), read_from(other, shuffle=False)]
    worlds = [World(rank=rank, size=2) for rank in range(2)]
    pairs = [
        (on_actors(actors[:1], reading, world).batches(0), reading.open(world).batches(0))
        for reading in readings
        for world in worlds
    ]
    while pairs:  # One batch of each reader in turn.
        pairs = [
            (batches, wanted)
            for batches, wanted in pairs
            for batch in [next(wanted, None)]
            if batch is not None and assert_same([next(batches)], [batch]) is None
        ]


def test_a_single_part_is_not_copied(actors, texts):
    reading = read_from(texts, batch_size=128)
    batch = next(ShardReader(actors[:1], reading, World()).batches(0))
    assert batch.a.nbytes > 1 << 16
    assert not batch.a.flags.writeable  # It lies in the object store.


class NotingReader(PairReader):
    """Notes each stretch that it gives in a file."""

    reading: "NotingReading"

    def chunks(self, epoch, start_step, steps_at_once):
        def note(stretches):
            with closing(stretches):
                for stretch in stretches:
                    with Path(self.reading.noted).open("a") as file:
                        file.write("x")
                    yield stretch

        stretches = super().chunks(epoch, start_step, steps_at_once)
        return PrefetchIterator(lambda: note(stretches), depth=1)


@dataclass(frozen=True, kw_only=True)
class NotingReading(PairReading):
    noted: str

    def open(self, world):
        return NotingReader(self, world)


def test_actors_wait_for_a_trainer_that_takes_nothing(actors, tmp_path):
    pairs = write_dataset(tmp_path / "pairs", [[100] * 20])
    noted = tmp_path / "noted"
    reading = read_from(pairs, kind=NotingReading, noted=str(noted), batch_size=4)
    reader = on_actors(actors[:1], reading, World())
    with reader.batches(0) as batches:
        num_given = 0
        for num_taken in (1, 30):
            for _ in range(num_taken):
                next(batches)
            num_given += num_taken
            time.sleep(2)
            # Requests of 8 steps: one taken up, two under way, and what the actor has in hand.
            assert num_given / 8 < noted.stat().st_size <= num_given / 8 + 3 + 3
    assert reader.steps_per_epoch == 500


def spoil(pairs):
    """Makes two rows of the dataset's first row group bad."""
    file = Path(pairs) / "part-00000.parquet"
    table = pq.read_table(file)
    labels = table["label"].to_pylist()
    labels[3], labels[7] = None, 5
    pq.write_table(with_column(table, "label", labels, "int8"), file, row_group_size=20)


@pytest.mark.parametrize("num_actors", [1, 3])
def test_what_reading_fails_with_is_the_trainers_error(actors, tmp_path, num_actors):
    pairs = write_dataset(tmp_path, [[40], [60]])
    spoil(pairs)
    reading = read_from(pairs, batch_size=8)
    reader, own = on_actors(actors[:num_actors], reading, World()), reading.open(World())
    with pytest.raises(ValueError, match="row group 0, row 3") as wanted:
        list(own.batches(0))
    with pytest.raises(ValueError, match="row group 0, row 3") as raised:
        list(reader.batches(0))
    assert type(raised.value) is UserError
    assert str(raised.value) == str(wanted.value)
    assert reader.stats.error is raised.value


class UnopenedReading(PairReading):
    """Fails when it is opened, which the trainer does not do."""

    def open(self, world):
        raise ValueError("It cannot be opened here.")


def test_an_error_of_the_actor_itself_is_plain_too(actors, texts):
    reader = on_actors(actors, read_from(texts, kind=UnopenedReading), World())
    with pytest.raises(ValueError, match="cannot be opened here") as raised:
        list(reader.batches(0))
    assert type(raised.value) is ValueError


@pytest.mark.parametrize("num_trainers", [1, 2])
def test_an_actor_killed_in_mid_epoch_leaves_the_order_as_it_is(own_actors, tmp_path, num_trainers):
    pairs = write_dataset(tmp_path, [[50] * 20])
    reading = read_from(pairs, batch_size=4)
    worlds = [World(rank=rank, size=num_trainers) for rank in range(num_trainers)]
    readers = [on_actors(own_actors, reading, world) for world in worlds]
    iterators = [reader.batches(0) for reader in readers]
    read = [[next(batches) for _ in range(20)] for batches in iterators]
    victim = process_of(own_actors[0])
    os.kill(victim, signal.SIGKILL)
    for batches, so_far in zip(iterators, read, strict=True):
        so_far.extend(batches)
    assert process_of(own_actors[0]) != victim
    for so_far, world in zip(read, worlds, strict=True):
        assert_same(so_far, reading.open(world).batches(0))


def test_bad_rows_are_counted_once_though_an_actor_is_killed(own_actors, tmp_path):
    pairs = write_dataset(tmp_path, [[300], [300]])
    spoil(pairs)
    reading = read_from(pairs, batch_size=4, on_bad_row="skip")
    reader = on_actors(own_actors[:1], reading, World())
    with reader.batches(0) as batches:
        for number, _ in enumerate(batches):
            if number % 50 == 10:
                os.kill(process_of(own_actors[0]), signal.SIGKILL)
    assert reader.stats.num_bad_rows == 2
    assert len(reader.stats.problems) == 1


class FatalReader(PairReader):
    """Ends its process when it comes to one row group, as want of memory does; notes each time."""

    reading: "FatalReading"

    def load_row_group(self, group):
        if group == self.reading.fatal_group:
            with Path(self.reading.noted).open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load_row_group(group)


@dataclass(frozen=True, kw_only=True)
class FatalReading(PairReading):
    fatal_group: int
    noted: str

    def open(self, world):
        return FatalReader(self, world)


@pytest.mark.slow
def test_a_row_group_that_ends_each_process_is_named(own_actors, tmp_path):
    pairs = write_dataset(tmp_path / "pairs", [[50] * 10, [50] * 10])
    noted = tmp_path / "noted"
    reading = read_from(pairs, kind=FatalReading, fatal_group=13, noted=str(noted), batch_size=4)
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"part-00001.parquet, row group 3, with 50 rows") as told:
        list(on_actors(own_actors[:1], reading, World()).batches(0))
    assert time.monotonic() - begin < 60
    assert f"has ended a process {noted.stat().st_size} times" in str(told.value)
    # A trainer that has the actor in common with it goes on.
    harmless = read_from(pairs, batch_size=4)
    reader = on_actors(own_actors[:1], harmless, World())
    assert_same(reader.batches(0), harmless.open(World()).batches(0))


@pytest.mark.slow
def test_an_actor_that_cannot_come_back_is_an_error_that_names_its_node(tmp_path):
    pairs = write_dataset(tmp_path, [[50] * 20])
    actors = start_shard_actors(1, cpus=8)
    reader = on_actors(actors, read_from(pairs, batch_size=4), World())
    with reader.batches(0) as batches:
        next(batches)
        # Another actor waits for a CPU, and takes it when this one dies.
        other = start_shard_actors(1, cpus=1)
        begin = time.monotonic()
        os.kill(process_of(actors[0]), signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"shard actor 0 of 1, last seen on the node \d+\."):
            list(batches)
        assert time.monotonic() - begin < 50
    stop(actors + other)


def test_an_actor_that_was_ended_for_good_is_an_error(own_actors, tmp_path):
    pairs = write_dataset(tmp_path, [[50] * 20])
    reader = on_actors(own_actors, read_from(pairs, batch_size=4), World())
    with reader.batches(0) as batches:
        next(batches)
        ray.kill(own_actors[1])
        with pytest.raises(RuntimeError, match="shard actor 1 of 2"):
            list(batches)


def test_an_iterator_closed_early_has_read_no_more_than_was_under_way(actors, tmp_path):
    pairs = write_dataset(tmp_path / "pairs", [[100] * 20])
    noted = tmp_path / "noted"
    reading = read_from(pairs, kind=NotingReading, noted=str(noted), batch_size=4)
    reader = on_actors(actors[:1], reading, World())
    for _ in range(5):
        with reader.batches(0) as batches:
            next(batches)
    time.sleep(2)
    # Of each: one request taken up, two under way, and what the actor has in hand.
    assert noted.stat().st_size <= 5 * (3 + 3)
