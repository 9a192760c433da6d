"""Reads that fail, of a real S3 server behind a way that is cut and of a disk: no damage."""

import gzip
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from sharedlayers_dist.data import index_dataset, read_items, resolve_alphabet
from sharedlayers_dist.data.damage import NotedFile, reason_of_damage
from sharedlayers_dist.data.inspection.rows import GroupNumbers, choose_row_groups, read_set
from sharedlayers_dist.data.making.items import FileItems
from sharedlayers_dist.data.reading.row_groups import RowGroupLoader
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import StorageError
from sharedlayers_dist.world import World
from tests.object_store import Way, answer_always, make_bucket, make_uri
from tests.unit.data.samples import codecs_for, open_pairs, write_dataset

CSV = "text,who\n" + "".join(f"text {n},{n % 9}\n" for n in range(5000))


@pytest.fixture(scope="module")
def index(object_store, tmp_path_factory):
    """A bucket of item files and a dataset; the dataset's index."""
    folder = tmp_path_factory.mktemp("failing")
    write_dataset(folder / "train", [[20, 20]])
    items = pa.table({"text": [f"text {n}" for n in range(99)], "who": ["ann"] * 99})
    pq.write_table(items, folder / "items.parquet")
    (folder / "items.csv").write_text(CSV)
    (folder / "items.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    make_bucket("failing", object_store)
    store, _ = fs.FileSystem.from_uri(make_uri("failing", object_store))
    fs.copy_files(str(folder), "failing", destination_filesystem=store)
    return index_dataset(make_uri("failing/train", object_store))


def read_pairs(index, address, on_bad_row):
    index = replace(index, uri=make_uri("failing/train", address))
    reader = open_pairs(
        index,
        alphabet="ab0123456789",
        batch_size=20,
        seed=0,
        num_streams=1,
        world=World(),
        on_bad_row=on_bad_row,
    )
    list(reader.batches(0))


def count_alphabet(index, address, on_bad_row):
    index = replace(index, uri=make_uri("failing/train", address))
    return resolve_alphabet(index, on_bad_row=on_bad_row)


def inspect_pairs(index, address):
    index = replace(index, uri=make_uri("failing/train", address))
    read_set(index, choose_row_groups(index, None), GroupNumbers(), lambda num_rows: None)


def go_through(index, address, name, on_bad_row):
    uri = make_uri(f"failing/{name}", address)
    list(FileItems(uri, column="text", group="who", on_bad_row=on_bad_row).iter_batches())


def hold_items(index, address, on_bad_row):
    uri = make_uri("failing/items.parquet", address)
    read_items(uri, item="text", group="who", on_bad_row=on_bad_row)


# Each with how many requests for a part of a file pass, and the place that the error names.
PAIRS = "failing/train/part-00000.parquet"
READS = {
    "footer": (0, PAIRS, lambda index, way: index_dataset(make_uri("failing/train", way))),
    # The loader's footer and first row group come.
    "groups": (2, f"{PAIRS}, row group 0", inspect_pairs),
}
for mode in ("error", "skip"):
    READS |= {
        f"pairs, {mode}": (
            0,
            f"{PAIRS}, row group [01]",
            partial(read_pairs, on_bad_row=mode),
        ),
        f"alphabet, {mode}": (
            1,  # The footer.
            f"{PAIRS}, row group 0",
            partial(count_alphabet, on_bad_row=mode),
        ),
        f"items in memory, {mode}": (
            0,
            r"failing/items\.parquet",
            partial(hold_items, on_bad_row=mode),
        ),
    }
    for file, place in (
        ("items.csv", "after line 0"),
        ("items.csv.gz", "after line 0"),
        ("items.parquet", "row group 0"),
    ):
        READS[f"{file}, {mode}"] = (
            int(file == "items.parquet"),
            f"failing/{file}, {place}",
            partial(go_through, name=file, on_bad_row=mode),
        )


def is_of_a_file(line):
    """Whether a request is for the bytes of a file, by its first line."""
    return line.startswith(b"GET /failing/")


@pytest.fixture(scope="module")
def outcomes(index, object_store):
    """What each of READS ends with, all at once: pyarrow tries for some seconds before each."""

    def read(name):
        num_passing, _, do = READS[name]
        passed = count()
        with Way(
            object_store,
            may_pass=lambda line: not is_of_a_file(line) or next(passed) < num_passing,
        ) as way:
            try:
                return do(index, way.address)
            except Exception as error:
                return error

    threads = pa.io_thread_count()
    pa.set_io_thread_count(2 * len(READS))
    with ThreadPoolExecutor(len(READS)) as pool:
        found = dict(zip(READS, pool.map(read, READS), strict=True))
    pa.set_io_thread_count(threads)
    return found


@pytest.mark.parametrize("name", READS)
def test_a_connection_that_is_lost_is_neither_damage_nor_the_users(outcomes, name):
    error = outcomes[name]
    assert type(error) is StorageError, repr(error)
    with pytest.raises(StorageError, match=f"^{READS[name][1]}: it cannot be read: .*NETWORK"):
        raise error
    assert "secret" not in str(error)


def test_a_read_that_failed_once_is_no_damage(index, object_store):
    """Though the storage answers again by the time that anybody asks."""
    asked = count()
    with Way(
        object_store,
        may_pass=lambda line: not is_of_a_file(line) or next(asked) < 0,
        for_good=False,
    ) as way:
        store, _ = fs.FileSystem.from_uri(make_uri("failing", way.address))
        with pytest.raises(OSError, match="NETWORK_CONNECTION"):
            pq.ParquetFile(index.files[0].path, filesystem=store)
    num_tries, asked_again = next(asked), count()  # pyarrow's own, until it gives up.
    with Way(
        object_store,
        may_pass=lambda line: not is_of_a_file(line) or next(asked_again) >= num_tries,
        for_good=False,
    ) as way:
        index = replace(index, uri=make_uri("failing/train", way.address))
        loaded = RowGroupLoader(index, codecs_for(index), on_bad_row="skip").load(0)
    assert next(asked_again) > num_tries
    assert loaded.problem == ""


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("403 Forbidden", UserError),
        ("404 Not Found", UserError),
        ("503 Service Unavailable", StorageError),
    ],
)
def test_what_a_store_answers_decides_whose_fault_it_is(status, expected):
    with (
        answer_always(status) as address,
        pytest.raises(expected, match=r"s3://\*\*\*@failing/train") as refused,
    ):
        index_dataset(make_uri("failing/train", address))
    assert type(refused.value) is expected


HANGING = """
import sys
from sharedlayers_dist.data import index_dataset
from sharedlayers_dist.storage import bounded_reads
bounded_reads.wait_for_read.__kwdefaults__["limit_seconds"] = 2.0
index_dataset(sys.argv[1])
"""


@pytest.mark.slow  # pyarrow waits for the read some 100 seconds, when the process ends.
def test_a_read_that_hangs_ends_the_process(index, object_store):
    """Its own error, and not a crash of Python in one of pyarrow's threads."""
    may_answer = threading.Event()

    def hold(line: bytes) -> bool:
        return not is_of_a_file(line) or may_answer.wait()

    with Way(object_store, may_pass=hold) as way:
        ended = subprocess.run(
            [sys.executable, "-c", HANGING, make_uri("failing/train", way.address)],
            capture_output=True,
            text=True,
            timeout=200,
        )
        may_answer.set()
    assert ended.returncode == 1, ended.stderr
    *_, line = ended.stderr.strip().splitlines()
    assert "ReadTimeoutError: A read must not take longer than 2 seconds" in line


def test_a_disk_that_fails_is_no_damage(tmp_path):
    """A process's own memory has nothing at its beginning: the kernel answers with EIO."""
    path = tmp_path / "items.csv"
    path.write_text(CSV)
    source = FileItems(str(path), column="text", group="who", on_bad_row="skip")
    path.unlink()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(StorageError, match=r"items\.csv, after line 0: it cannot be read.*errno 5"):
        list(source.iter_batches())


def test_want_of_memory_is_no_damage(tmp_path):
    with NotedFile(fs.LocalFileSystem(), str(tmp_path)) as file, pytest.raises(MemoryError):
        reason_of_damage(pa.ArrowMemoryError("malloc of size 1 failed"), file, "x")


def test_a_store_that_is_away_ends_a_command_with_one_line_and_1(command, object_store, tmp_path):
    uri = make_uri("failing/items.csv", "127.0.0.1:1")
    options = ("--text", "text", "--group", "who", "--output", str(tmp_path / "out"))
    code, _, told = command("pairs", "--items", uri, *options)
    assert (code, told.count("\n")) == (1, 1), told
    assert told.startswith("sharedlayers: The file of items s3://***@failing/items.csv"), told
    assert not os.path.exists(tmp_path / "out")
