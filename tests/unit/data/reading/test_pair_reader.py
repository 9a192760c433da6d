"""Reading real Parquet: the same batches on any number of ranks, and errors that say where."""

import base64
import subprocess
import sys
import threading
import weakref
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packaging.version import Version

from sharedlayers_dist.data import encode_text, index_dataset
from sharedlayers_dist.data.reading.row_groups import RowGroup, RowGroupLoader
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.unit.data.samples import image_table, open_pairs, text_table, with_column, write_dataset

ALPHABET = "0123456789ab"
UNEVEN = [[7, 0, 13], [], [1, 1, 1], [40], [5, 9]]
NUM_ROWS = 77


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    return index_dataset(write_dataset(tmp_path_factory.mktemp("uneven"), UNEVEN))


def open_reader(index, *, rank=0, size=1, **options):
    defaults = {"alphabet": ALPHABET, "batch_size": 10, "seed": 3, "num_streams": 24}
    return open_pairs(index, world=World(rank=rank, size=size), **{**defaults, **options})


def count_threads():
    return sum(thread.name.startswith("sharedlayers") for thread in threading.enumerate())


def check_rows(batch):
    """Every value of the batch is that of the row it says it is."""
    for row, a, b, label in zip(batch.rows, batch.a, batch.b, batch.label, strict=True):
        expected = encode_text(pa.array([f"a{row}", f"b{row}"]), ALPHABET, 280)
        assert a.tolist() == expected[0].tolist()
        assert b.tolist() == expected[1].tolist()
        assert label == row % 2


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 12])
def test_global_batches_are_the_same_sample_by_sample_on_any_number_of_ranks(uneven, size):
    alone = [batch.rows.tolist() for batch in open_reader(uneven).batches(5)]
    assert sorted(chain.from_iterable(alone)) == list(range(NUM_ROWS))
    of_ranks = [list(open_reader(uneven, rank=r, size=size).batches(5)) for r in range(size)]
    for step, parts in enumerate(zip(*of_ranks, strict=True)):
        positions = np.arange(step * 10, min(step * 10 + 10, NUM_ROWS))
        batch = np.full(positions.size, -1)
        for rank, part in enumerate(parts):
            if part.rows[0] >= 0:
                check_rows(part)
                batch[positions % 24 % size == rank] = part.rows
        assert batch.tolist() == alone[step]
    assert count_threads() == 0


def test_the_dataset_says_how_many_rows_stay_together_unless_the_reader_does(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[64, 64], [72]], run_length=8))
    foreign = index_dataset(write_dataset(tmp_path / "foreign", [[64, 64], [72]]))

    def read(index, **options):
        reader = open_reader(index, batch_size=50, num_streams=1, **options)
        return np.concatenate([batch.rows for batch in reader.batches(0)])

    assert np.all(np.diff(read(index).reshape(-1, 8)) == 1)
    assert np.array_equal(read(index, run_length=1), read(foreign))
    assert np.array_equal(read(index), read(foreign, run_length=8))
    assert np.array_equal(read(index, shuffle=False), np.arange(200))


def test_without_shuffling_one_stream_gives_the_dataset_in_its_own_order(uneven):
    reader = open_reader(uneven, shuffle=False, num_streams=1)
    rows = np.concatenate([batch.rows for batch in reader.batches(0)])
    assert rows.tolist() == list(range(NUM_ROWS))


def test_steps_and_pairs_of_steps_are_known_beforehand(uneven):
    reader = open_reader(uneven)
    lengths = [len(batch.rows) for batch in reader.batches(0)]
    assert len(lengths) == reader.steps_per_epoch == 8
    assert lengths == [reader.reading.pairs_of_step(step) for step in range(8)]


def test_a_start_in_mid_epoch_reads_nothing_of_the_steps_before(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[10]] * 40))
    reader = open_reader(index, batch_size=20, num_streams=2, window=1)
    late = list(reader.batches(0, 12))
    needed = {index.place_of_row(row).file for batch in late for row in batch.rows}
    for file in index.files:
        if file.path not in needed:
            (tmp_path / file.name).unlink()
    assert 0 < len(needed) < 25
    again = open_reader(index, batch_size=20, num_streams=2, window=1).batches(0, 12)
    assert [b.rows.tolist() for b in again] == [b.rows.tolist() for b in late]


def test_weights_are_read(tmp_path):
    table = with_column(text_table(3), "weight", [0, 2, 5], pa.int32())
    pq.write_table(table, tmp_path / "1.parquet")
    (batch,) = open_reader(index_dataset(str(tmp_path))).batches(0)
    assert batch.weight.dtype == np.float32
    assert batch.weight[np.argsort(batch.rows)].tolist() == [0, 2, 5]


def test_booleans_and_categories_of_other_programs_are_read(tmp_path):
    texts = pa.array(["ab", "ba", "ab"]).dictionary_encode()
    table = pa.table({"a": texts, "b": texts, "label": [True, False, True]})
    pq.write_table(table, tmp_path / "1.parquet")
    (batch,) = open_reader(index_dataset(str(tmp_path))).batches(0)
    order = np.argsort(batch.rows)
    assert batch.label[order, 0].tolist() == [1, 0, 1]
    assert batch.a[order, -2:].tolist() == [[11, 12], [12, 11], [11, 12]]


def not_utf8(*encoded):
    array = pa.array(encoded, pa.binary())
    return pa.StringArray.from_buffers(len(array), array.buffers()[1], array.buffers()[2])


BAD_ROWS = [  # A column, its values, and what is wrong with row 1.
    ("a", pa.array(["x", None, "z"]), "column 'a' is null"),
    ("b", pa.array(["x", None, None]), "column 'b' is null"),
    ("a", not_utf8(b"x", b"\xff", b"z"), "column 'a' is not UTF-8"),
    ("label", pa.array([1, None, 0]), "column 'label' is null"),
    ("label", pa.array([1, 2, 0]), "its label is 2 and must be 0 or 1"),
    ("label", pa.array([1, -1, 0]), "its label is -1 and must be 0 or 1"),
    ("label", pa.array([1, 2**64 - 1, 0], pa.uint64()), "its label is -1 and must be 0 or 1"),
    ("weight", pa.array([1, None, 1.0]), "column 'weight' is null"),
    ("weight", pa.array([1, -0.5, 1]), "its weight is -0.5"),
    ("weight", pa.array([1, float("nan"), 1]), "its weight is nan"),
    ("weight", pa.array([1, float("inf"), 1]), "its weight is inf"),
]


@pytest.fixture(params=BAD_ROWS, ids=[f"{c}-{m}" for c, _, m in BAD_ROWS])
def bad(request, tmp_path):
    """A dataset whose second file has a bad row 1 in its row group 1, and what is wrong."""
    column, values, message = request.param
    write_dataset(tmp_path, [[5]])
    good = with_column(text_table(3, first=5), column, values.slice(0, 1).take([0, 0, 0]))
    with pq.ParquetWriter(tmp_path / "part-1.parquet", good.schema) as writer:
        writer.write_table(good)
        writer.write_table(with_column(text_table(3, first=8), column, values))
    if column == "weight":
        pq.write_table(
            with_column(text_table(5), "weight", [1.0] * 5), tmp_path / "part-00000.parquet"
        )
    return index_dataset(str(tmp_path)), message


def test_a_bad_row_is_an_error_that_says_where_it_lies(bad):
    index, message = bad
    reader = open_reader(index)
    with pytest.raises(ValueError, match="--on-bad-row skip") as refused:
        list(reader.batches(0))
    assert str(refused.value).startswith(f"{index.files[1].path}, row group 1, row 1: {message}")
    assert "\n" not in str(refused.value)
    assert reader.stats.error is refused.value
    assert count_threads() == 0


def test_bad_rows_that_are_skipped_become_padding_in_their_place(bad):
    index, message = bad
    num_bad = 2 if message == "column 'b' is null" else 1
    reader = open_reader(index, on_bad_row="skip", batch_size=4)
    batches = list(reader.batches(0))
    rows = np.concatenate([batch.rows for batch in batches])
    label = np.concatenate([batch.label[:, 0] for batch in batches])
    weight = np.concatenate([batch.weight for batch in batches])
    assert (
        rows.tolist()
        == np.concatenate([s.rows for s in reader.reading.plan(0).iter_steps()]).tolist()
    )
    assert sorted(rows[label < 0].tolist()) == [9, 10][:num_bad]
    assert (weight[label < 0] == 0).all()
    assert (weight[label >= 0] == 1).all()
    assert reader.stats.num_bad_rows == num_bad
    assert len(reader.stats.problems) == 1
    assert reader.stats.problems[0].startswith(
        f"{index.files[1].path}, row group 1, row 1: {message}"
    )


@pytest.mark.parametrize("make", [text_table, image_table])
def test_items_of_skipped_rows_are_empty(tmp_path, make):
    table = with_column(make(3, first=1), "label", [1, 2, 0])
    pq.write_table(table, tmp_path / "1.parquet")
    reader = open_reader(index_dataset(str(tmp_path)), on_bad_row="skip")
    (batch,) = reader.batches(0)
    is_empty = [not (a.any() or b.any()) for a, b in zip(batch.a, batch.b, strict=True)]
    assert is_empty == (batch.label[:, 0] < 0).tolist()


def write_null_image(path):
    """As Arrow 26 writes one; those before only write lists of any length, under another name."""
    table = image_table(3)
    images = pa.array([[1] * 6, None, [3] * 6], pa.list_(pa.uint8()))
    with pq.ParquetWriter(path, with_column(table, "a", images).schema, store_schema=False) as file:
        file.write_table(with_column(table, "a", images))
        schema = base64.b64encode(table.schema.serialize().to_pybytes())
        file.add_key_value_metadata({"ARROW:schema": schema})


def test_a_null_image_is_a_bad_row_or_damages_its_row_group(tmp_path):
    """The latter where Arrow cannot read one: https://github.com/apache/arrow/issues/35692."""
    write_null_image(tmp_path / "1.parquet")
    index = index_dataset(str(tmp_path))
    is_read = Version(pa.__version__) >= Version("26")
    message = ", row 1: column 'a' is null" if is_read else ": it cannot be read: Expected all"
    with pytest.raises(UserError, match=f"row group 0{message}"):
        list(open_reader(index).batches(0))
    (batch,) = open_reader(index, on_bad_row="skip").batches(0)
    order = np.argsort(batch.rows)
    assert batch.a[order, 0, 0, 0].tolist() == ([1, 0, 3] if is_read else [0, 0, 0])
    assert batch.label[order, 0].tolist() == ([0, -1, 0] if is_read else [-1, -1, -1])


@pytest.fixture(params=[text_table, image_table])
def corrupt(request, tmp_path):
    """A dataset with one row group whose bytes were overwritten, 30 of its 60 rows."""
    index = index_dataset(write_dataset(tmp_path, [[20], [30, 10]], request.param))
    file = tmp_path / "part-00001.parquet"
    group = pq.read_metadata(file).row_group(0)
    content = bytearray(file.read_bytes())
    start = group.column(0).dictionary_page_offset or group.column(0).data_page_offset
    stop = group.column(2).data_page_offset
    content[start:stop] = b"\xff" * (stop - start)
    file.write_bytes(content)
    return index


def test_a_corrupt_row_group_is_named(corrupt):
    with pytest.raises(ValueError, match=r"/part-00001\.parquet, row group 0: it cannot be read"):
        list(open_reader(corrupt).batches(0))
    assert count_threads() == 0


def test_the_rows_of_a_corrupt_row_group_are_skipped_and_counted(corrupt):
    reader = open_reader(corrupt, on_bad_row="skip")
    batches = list(reader.batches(0))
    label = np.concatenate([batch.label[:, 0] for batch in batches])
    rows = np.concatenate([batch.rows for batch in batches])
    assert sorted(rows[label < 0].tolist()) == list(range(20, 50))
    assert reader.stats.num_bad_rows == 30
    assert reader.stats.problems[0].startswith(
        f"{corrupt.files[1].path}, row group 0: it cannot be read"
    )


def test_a_file_that_has_gone_is_an_error_even_where_bad_rows_are_skipped(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[5], [5]]))
    (tmp_path / "part-00001.parquet").unlink()
    with pytest.raises(ValueError, match=r"/part-00001\.parquet, row group 0: it cannot be read"):
        list(open_reader(index, on_bad_row="skip").batches(0))


def test_a_file_that_has_changed_since_it_was_indexed_is_an_error(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[5]]))
    write_dataset(tmp_path, [[4]])
    with pytest.raises(ValueError, match="it has 4 rows, and had 5 when indexed"):
        list(open_reader(index).batches(0))


@pytest.mark.parametrize(("size", "num_streams"), [(1, 4), (2, 4), (1, 24)])
def test_row_groups_are_read_once_and_few_are_kept(tmp_path, monkeypatch, size, num_streams):
    index = index_dataset(write_dataset(tmp_path, [[16] * 20] * 10))
    kept: weakref.WeakSet[RowGroup] = weakref.WeakSet()
    loaded, most = [], 0
    load = RowGroupLoader.load

    def count(loader, group):
        loaded.append(group)
        result = load(loader, group)
        kept.add(result)
        return result

    monkeypatch.setattr(RowGroupLoader, "load", count)
    for rank in range(size):
        options = {"num_streams": num_streams, "window": 2, "batches_ahead": 1, "rows_at_once": 16}
        for _ in open_reader(index, rank=rank, size=size, **options).batches(0):
            most = max(most, len(kept))
    assert set(loaded) == set(range(200))
    assert len(loaded) <= 200 + size - 1
    # Two windows of each stream where one ends within the batches ahead; never the dataset.
    assert most <= 2 * 2 * num_streams // size


def test_more_ranks_than_streams_are_refused_at_once(uneven):
    with pytest.raises(ValueError, match="Start at most 2 ranks"):
        open_reader(uneven, rank=0, size=3, num_streams=2)


@pytest.mark.parametrize(
    "option", [{"batches_ahead": 0}, {"on_bad_row": "ignore"}, {"batch_size": 0}, {"window": 0}]
)
def test_options_out_of_their_range_are_refused_at_once(uneven, option):
    (name, value), *_ = option.items()
    with pytest.raises(ValueError, match=f"Received: {name}={value!r}"):
        open_reader(uneven, **option)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, [np.nan] * 3),
        (pa.array(["x", "y", "z"]), [np.nan] * 3),
        (pa.array([1, None, 9]), [1, np.nan, np.nan]),
    ],
    ids=["none", "no numbers", "some"],
)
def test_labels_that_nobody_requires_may_be_missing(tmp_path, label, expected):
    table = text_table(3).drop_columns(["label"])
    if label is not None:
        table = table.append_column("label", label)
    pq.write_table(table, tmp_path / "1.parquet")
    index = index_dataset(str(tmp_path), requires_label=False)
    reader = open_reader(index, requires_label=False, num_streams=1, shuffle=False)
    (batch,) = reader.batches(0)
    assert np.array_equal(batch.label[:, 0], expected, equal_nan=True)
    assert batch.weight.tolist() == [1, 1, 1]
    assert reader.stats.num_bad_rows == 0


HANGING = """
import os, sys
from sharedlayers_dist.data import index_dataset
from sharedlayers_dist.world import World
from tests.unit.data.samples import open_pairs
index = index_dataset(sys.argv[1])
os.unlink(index.files[1].path)
os.mkfifo(index.files[1].path)  # Opening it blocks until somebody writes.
reader = open_pairs(
    index, alphabet="ab", batch_size=4, seed=0, num_streams=2, world=World(rank=1, size=2),
    read_limit_seconds=0.5,
)
list(reader.batches(0))
"""


def test_a_read_that_hangs_ends_the_process_and_is_named(tmp_path):
    """In a process of its own, which must end in spite of the thread that is blocked."""
    folder = write_dataset(tmp_path, [[5], [5]])
    ended = subprocess.run(
        [sys.executable, "-c", HANGING, folder], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    *_, line = ended.stderr.strip().splitlines()
    assert "must not take longer than 0.5 seconds" in line
    assert f"{tmp_path}/part-00001.parquet, row group 0, on rank 1 of 2" in line
