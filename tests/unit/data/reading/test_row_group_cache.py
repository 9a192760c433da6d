"""Copies of row groups of a real S3 server, whose requests are seen on their way."""

import multiprocessing
import os
import resource
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from sharedlayers_dist.data import CacheOptions, index_dataset, index_mixture
from sharedlayers_dist.data.reading.row_groups import RowGroupLoader
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.object_store import Way, answer_always, make_bucket, make_uri
from tests.unit.data.samples import (
    codecs_for,
    image_table,
    open_pairs,
    text_table,
    with_column,
    write_dataset,
)

NUM_ROW_GROUPS = 5


class Store:
    """A bucket on the server, and the requests for its objects."""

    def __init__(self, address):
        self.requests = []
        self.way = Way(address, may_pass=self._note)
        self.files, _ = fs.FileSystem.from_uri(make_uri("cached", address))

    def _note(self, line):
        self.requests.append(line.decode().split("?")[0].split(" ")[:2])
        return True

    def put(self, folder, name):
        """Copies a local folder there; returns its URI."""
        fs.copy_files(str(folder), f"cached/{name}", destination_filesystem=self.files)
        return make_uri(f"cached/{name}", self.way.address)

    def count(self, do):
        """What `do()` gives, and the requests for objects that it makes, by their methods."""
        self.requests.clear()
        done = do()
        methods = [method for method, path in self.requests if path.endswith(".parquet")]
        return done, {method: methods.count(method) for method in dict.fromkeys(methods)}


@pytest.fixture(scope="module")
def store(object_store):
    make_bucket("cached", object_store)
    store = Store(object_store)
    with store.way:
        yield store


@pytest.fixture(scope="module")
def pairs(store, tmp_path_factory):
    """The index of two files with five row groups."""
    folder = write_dataset(tmp_path_factory.mktemp("pairs"), [[20, 7, 13], [9, 11]])
    return index_dataset(store.put(folder, "pairs"))


@pytest.fixture
def cache(tmp_path):
    return CacheOptions(folder=str(tmp_path / "copies"), max_bytes=10**9)


def open_reader(index, cache=None, **options):
    order = {"batch_size": 8, "seed": 3, "num_streams": 4}
    defaults = {"alphabet": "0123456789ab", "world": World(), "cache": cache}
    return open_pairs(index, **{**order, **defaults, **options})


def read_epoch(reader, epoch=0):
    return [[np.asarray(values).tobytes() for values in batch] for batch in reader.batches(epoch)]


def test_a_second_epoch_asks_for_nothing(store, pairs, cache):
    plain = open_reader(pairs)
    expected = [read_epoch(plain, epoch) for epoch in range(2)]
    reader = open_reader(pairs, cache)
    first, asked = store.count(lambda: read_epoch(reader))
    assert first == expected[0]
    assert asked["GET"] >= NUM_ROW_GROUPS
    again, asked = store.count(lambda: read_epoch(reader, 1))
    assert again == expected[1]
    assert asked == {}
    assert reader.stats.cache == {"missing": NUM_ROW_GROUPS, "found": NUM_ROW_GROUPS}
    assert not plain.stats.cache


def test_another_rank_of_the_host_asks_for_the_versions_alone(store, pairs, cache):
    read_epoch(open_reader(pairs, cache))
    other = replace(pairs, uri=pairs.uri.replace("key:secret", "another:login"))
    reader = open_reader(other, cache)
    found, asked = store.count(lambda: read_epoch(reader))
    assert found == read_epoch(open_reader(pairs))
    assert asked.keys() == {"HEAD"}
    assert reader.stats.cache == {"found": NUM_ROW_GROUPS}


def categories(num_rows, *, first=0):
    """Texts as pandas has categories, with another dictionary in each row group."""
    table = text_table(num_rows, first=first)
    return with_column(table, "a", table["a"].combine_chunks().dictionary_encode())


def vectors(num_rows, *, first=0):
    values = pa.array([[row + 0.5, first] for row in range(num_rows)], pa.list_(pa.float32(), 2))
    return pa.table({"a": values, "b": values, "label": text_table(num_rows)["label"]})


@pytest.mark.parametrize("make", [text_table, categories, image_table, vectors])
def test_items_of_all_kinds_are_the_same_from_a_copy(store, cache, tmp_path, make):
    uri = store.put(write_dataset(tmp_path / "local", [[20, 5], [9]], make), make.__name__)
    reader = open_reader(index_dataset(uri), cache)
    expected = read_epoch(open_reader(reader.index))
    assert [read_epoch(reader) for _ in range(2)] == [expected, expected]
    assert reader.stats.cache == {"missing": 3, "found": 3}


def test_a_mixture_keeps_what_is_far_alone(store, pairs, cache, tmp_path):
    near = write_dataset(tmp_path / "near", [[30]])
    mixture = index_mixture({pairs.uri: 1, near: 1})
    reader = open_reader(mixture, cache)
    for epoch in range(2):
        assert read_epoch(reader, epoch) == read_epoch(open_reader(mixture), epoch)
    assert 0 < len(os.listdir(cache.folder)) <= NUM_ROW_GROUPS


def test_pairs_on_a_disk_are_not_copied(cache, tmp_path):
    folder = write_dataset(tmp_path / "near", [[30]])
    for uri in (folder, f"file://{folder}"):
        read_epoch(open_reader(index_dataset(uri), cache))
    assert os.listdir(cache.folder) == []


def test_spoilt_copies_are_read_from_the_store_and_replaced(store, pairs, cache):
    expected = read_epoch(open_reader(pairs, cache))
    copies = [os.path.join(cache.folder, name) for name in sorted(os.listdir(cache.folder))]
    os.truncate(copies[0], 40)
    with open(copies[1], "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    reader = open_reader(pairs, cache)
    assert read_epoch(reader) == expected
    assert reader.stats.cache == {"found": 3, "missing": 2, "damaged": 2}
    assert read_epoch(reader) == expected
    assert reader.stats.cache == {"found": 8, "missing": 2, "damaged": 2}


def test_another_version_of_a_file_is_not_mistaken_for_it(store, cache, tmp_path):
    """Of the same size, name and rows, and written within the same second."""
    expected = []
    for first in (10, 50):
        folder = tmp_path / str(first)
        folder.mkdir()
        pq.write_table(text_table(20, first=first), folder / "one.parquet")
        index = index_dataset(store.put(folder, "versions"))
        assert read_epoch(open_reader(index, cache)) == read_epoch(open_reader(index))
        expected.append(index)
    assert expected[0] == expected[1]
    assert len(os.listdir(cache.folder)) == 2


def test_a_file_that_changes_under_a_reader_is_kept_as_what_it_is(store, cache, tmp_path):
    labels = []
    pairs = text_table(20)
    for label in (0, 1):
        folder = tmp_path / str(label)
        folder.mkdir()
        column = pa.array([label] * 20, pairs["label"].type)
        table = with_column(pairs, "label", column)
        pq.write_table(table, folder / "one.parquet", row_group_size=10)
    index = index_dataset(store.put(tmp_path / "0", "changing"))
    loader = RowGroupLoader(index, codecs_for(index), cache=cache.open())
    labels += loader.load(0).label.tolist()
    store.put(tmp_path / "1", "changing")
    labels += loader.load(1).label.tolist()  # As without a cache.
    assert labels == [0] * 10 + [1] * 10
    later = RowGroupLoader(index, codecs_for(index), cache=(files := cache.open()))
    assert [later.load(group).label.tolist() for group in range(2)] == [[1] * 10] * 2
    assert files.counts == {"missing": 1, "found": 1}


def test_a_bad_row_is_told_the_same_from_a_copy(store, cache, tmp_path):
    pairs = with_column(text_table(20), "label", pa.array([7] + [1] * 19, pa.int8()))
    (tmp_path / "bad").mkdir()
    pq.write_table(pairs, tmp_path / "bad" / "one.parquet")
    index = index_dataset(store.put(tmp_path / "bad", "bad"))
    skipping = open_reader(index, cache, on_bad_row="skip")
    assert read_epoch(skipping) == read_epoch(skipping)
    assert skipping.stats.num_bad_rows == 2
    with pytest.raises(UserError, match=r"bad/one\.parquet, row group 0, row 0: its label is 7"):
        read_epoch(open_reader(index, cache))


def test_a_row_group_that_is_damaged_is_not_kept(store, cache, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    pq.write_table(text_table(500), folder / "one.parquet", compression="none")
    with (folder / "one.parquet").open("r+b") as file:
        file.seek(4)
        file.write(b"\xff" * 300)
    index = index_dataset(store.put(folder, "damaged"))
    reader = open_reader(index, cache)
    for _ in range(2):
        with pytest.raises(UserError, match=r"one\.parquet, row group 0: it cannot be read: "):
            read_epoch(reader)
    assert os.listdir(cache.folder) == []


def test_what_a_store_refuses_is_told_as_without_a_cache(pairs, cache):
    with answer_always("403 Forbidden") as address:
        index = replace(pairs, uri=make_uri("cached/pairs", address))
        with pytest.raises(UserError, match=r"part-0000[01]\.parquet, row group .*ACCESS_DENIED"):
            read_epoch(open_reader(index, cache))


def test_a_cache_that_holds_less_than_an_epoch_gives_the_same_rows(store, pairs, cache):
    expected = [read_epoch(open_reader(pairs), epoch) for epoch in range(3)]
    read_epoch(open_reader(pairs, cache))
    sizes = [entry.stat().st_size for entry in os.scandir(cache.folder)]
    small = replace(cache, max_bytes=int(sum(sizes) * 0.6))
    reader = open_reader(pairs, small)
    for epoch in range(3):
        assert read_epoch(reader, epoch) == expected[epoch]
        held = sum(entry.stat().st_size for entry in os.scandir(cache.folder))
        assert 0 < held <= small.max_bytes
    assert reader.stats.cache["found"] > 0


def test_a_full_disk_leaves_the_rows_as_they_are(pairs, cache):
    reader = open_reader(pairs, cache)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.warns(UserWarning, match="File too large") as told:
            found = read_epoch(reader)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == read_epoch(open_reader(pairs))
    assert len(told) == 1
    assert reader.stats.cache == {"missing": NUM_ROW_GROUPS, "not_kept": NUM_ROW_GROUPS}
    assert os.listdir(cache.folder) == []


def read_two_epochs(barrier, uri, folder, expected):
    reader = open_reader(index_dataset(uri), CacheOptions(folder=folder, max_bytes=10**9))
    barrier.wait(60)
    assert [read_epoch(reader, epoch) for epoch in range(2)] == expected
    assert reader.stats.cache.keys() <= {"found", "missing"}


def test_two_processes_at_once_read_the_same_rows(pairs, cache):
    plain = open_reader(pairs)
    expected = [read_epoch(plain, epoch) for epoch in range(2)]
    context = multiprocessing.get_context("forkserver")
    arguments = (context.Barrier(2), pairs.uri, cache.folder, expected)
    processes = [context.Process(target=read_two_epochs, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(os.listdir(cache.folder)) == NUM_ROW_GROUPS
