"""What every kind of items can do, from real Parquet to batches: one contract for all codecs."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.data import (
    OrderOptions,
    PairCodecs,
    PairReading,
    PKReader,
    TokenCodec,
    VectorListCodec,
    index_dataset,
    read_items,
)
from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.items.codec import blank_items, join_items, take_items
from sharedlayers_dist.world import World
from tests.unit.data.items.samples import BY_NAME, SAMPLES

BAD = [
    pytest.param(sample, reason, id=f"{sample.name}-{reason}")
    for sample in SAMPLES
    for reason in sample.bad
]


@pytest.fixture(params=SAMPLES, ids=lambda sample: sample.name)
def sample(request):
    return request.param


def read(sample, folder, *, rank=0, size=1, on_bad_row="error", **options):
    """The reader of a dataset, and its batches."""
    reading = PairReading(
        index=index_dataset(str(folder)),
        codecs=PairCodecs(sample.codec, sample.codec),
        options=OrderOptions(**{"seed": 1, "batch_size": 4, "num_streams": 4, **options}),
        on_bad_row=on_bad_row,
    )
    reader = reading.open(World(rank=rank, size=size))
    return reader, list(reader.batches(0))


def test_batches_hold_the_items_of_the_file(sample, tmp_path):
    pq.write_table(sample.table(7), tmp_path / "0.parquet", row_group_size=3)
    pq.write_table(sample.table(4, first=7), tmp_path / "1.parquet")
    _, batches = read(sample, tmp_path)
    assert sum(len(batch.rows) for batch in batches) == 11
    for batch in batches:
        for values, shift in ((batch.a, 0), (batch.b, 1)):
            assert (values.shape[1:], values.dtype) == (sample.codec.shape, sample.codec.dtype)
            np.testing.assert_array_equal(values, sample.encoded[(batch.rows + shift) % 5])


def test_two_ranks_read_what_one_reads(sample, tmp_path):
    pq.write_table(sample.table(11), tmp_path / "0.parquet", row_group_size=3)
    _, alone = read(sample, tmp_path)
    of_ranks = [read(sample, tmp_path, rank=rank, size=2)[1] for rank in range(2)]
    for whole, *parts in zip(alone, *of_ranks, strict=True):
        rows = np.concatenate([part.rows for part in parts])
        order = np.argsort(rows)[np.argsort(np.argsort(whole.rows))]
        for values, shared in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(shared)[order], values)


@pytest.mark.parametrize(("sample", "reason"), BAD)
def test_a_bad_row_is_an_error_or_is_left_out_and_counted(sample, reason, tmp_path):
    good = sample.table(7)
    table = sample.with_bad_row(good, 5, sample.bad[reason])
    pq.write_table(table, tmp_path / "0.parquet", row_group_size=4)
    place = f"{tmp_path}/0.parquet, row group 1, row 1: column 'a' {reason}"
    with pytest.raises(ValueError, match="--on-bad-row skip") as refused:
        read(sample, tmp_path)
    assert str(refused.value).startswith(place)
    reader, batches = read(sample, tmp_path, on_bad_row="skip")
    assert reader.stats.num_bad_rows == 1
    (problem,) = reader.stats.problems
    assert problem.startswith(place)
    for batch in batches:
        is_bad = batch.rows == 5
        assert (batch.label[:, 0] < 0).tolist() == (batch.weight == 0).tolist() == is_bad.tolist()
        assert not batch.a[is_bad].any()
        assert not batch.b[is_bad].any()
        expected = sample.encoded[batch.rows[~is_bad] % 5]
        np.testing.assert_array_equal(batch.a[~is_bad], expected)


def test_the_rows_of_a_corrupt_row_group_are_blank(sample, tmp_path):
    path = tmp_path / "0.parquet"
    pq.write_table(sample.table(30), path, row_group_size=20, use_dictionary=False)
    group = pq.read_metadata(path).row_group(0)
    content = bytearray(path.read_bytes())
    start, stop = (group.column(column).data_page_offset for column in (0, group.num_columns - 1))
    content[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(content)
    reader, batches = read(sample, tmp_path, on_bad_row="skip")
    assert reader.stats.num_bad_rows == 20
    for batch in batches:
        assert not batch.a[batch.rows < 20].any()
        expected = sample.encoded[batch.rows[batch.rows >= 20] % 5]
        np.testing.assert_array_equal(batch.a[batch.rows >= 20], expected)


def test_pairs_are_made_of_the_items_on_the_fly(sample, tmp_path):
    who = [0, 0, 1, 1, 1]
    pq.write_table(pa.table({"item": sample.column, "who": who}), tmp_path / "0.parquet")
    items = read_items(str(tmp_path), item="item", group="who", codec=sample.codec)
    assert pickle.loads(pickle.dumps(items)).fingerprint == items.fingerprint
    reader = PKReader(
        items,
        codec=sample.codec,
        groups_per_batch=2,
        items_per_group=3,
        seed=0,
        world=World(),
    )
    (batch,) = reader.batches(0)
    for values, places in zip((batch.a, batch.b), np.divmod(batch.rows, 5), strict=True):
        np.testing.assert_array_equal(values, sample.encoded[places])


@pytest.mark.parametrize(("sample", "reason"), BAD)
def test_a_bad_item_is_found_before_pairs_are_made_of_it(sample, reason, tmp_path):
    table = sample.with_bad_row(sample.table(5), 3, sample.bad[reason])
    pq.write_table(table, tmp_path / "0.parquet")
    options = {"item": "a", "group": "label", "codec": sample.codec}
    place = f"{tmp_path}/0.parquet, row group 0, row 3: column 'a' {reason}"
    with pytest.raises(ValueError, match="--on-bad-row skip") as refused:
        read_items(str(tmp_path), **options)
    assert str(refused.value).startswith(place)
    items = read_items(str(tmp_path), **options, on_bad_row="skip")
    assert (len(items.items), items.num_bad_rows) == (4, 1)


def test_codecs_are_equal_by_value_and_travel(sample):
    assert pickle.loads(pickle.dumps(sample.codec)) == sample.codec
    assert [sample.codec == other.codec for other in SAMPLES].count(True) == 1


def test_held_items_are_taken_joined_and_blanked_alike(sample):
    codec = sample.codec
    held = codec.read(pa.chunked_array([sample.column[:2], sample.column[2:]]))
    joined = join_items([take_items(held, np.array([3, 1])), codec.blanks(1), held])
    blanked = blank_items(joined, np.array([False, True, False, False, True, False, False, False]))
    encoded = codec.encode(blanked)
    expected = np.concatenate([sample.encoded[[3, 1, 0]], sample.encoded])
    expected[[1, 2, 4]] = 0
    np.testing.assert_array_equal(encoded.values, expected)
    assert encoded.bad == {}


def test_items_of_one_content_have_one_key(sample):
    held = sample.codec.read(pa.chunked_array([sample.column, sample.column]))
    keys = content_keys(held, exact=True)
    assert np.array_equal(keys[:5], keys[5:])
    assert len(np.unique(keys)) == 5


def test_both_sides_may_be_of_different_kinds(tmp_path):
    text, image = BY_NAME["text"], BY_NAME["image-files"]
    table = text.table(11).set_column(1, "b", image.table(11)["a"])
    pq.write_table(table, tmp_path / "0.parquet", row_group_size=4)
    index = index_dataset(str(tmp_path))
    assert (str(index.a), str(index.b), index.kind) == ("text", "images as files", "text and image")
    reading = PairReading(
        index=index,
        codecs=PairCodecs(text.codec, image.codec),
        options=OrderOptions(seed=1, batch_size=4, num_streams=4),
    )
    for batch in reading.open(World()).batches(0):
        np.testing.assert_array_equal(batch.a, text.encoded[batch.rows % 5])
        np.testing.assert_array_equal(batch.b, image.encoded[batch.rows % 5])


def test_beneath_a_null_no_ids_are_looked_for_and_none_shift_the_rows():
    column = pa.array([None, [3, -1], [1, 1]], pa.list_(pa.int64(), 2))
    codec = TokenCodec(length=2, dtype="int32")
    assert list(codec.find_bad(codec.read(pa.chunked_array([column])))) == [1]
    vectors = pa.array([None, [3, np.inf], [1, 1]], pa.list_(pa.float32(), 2))
    lists = VectorListCodec(size=2, dtype="float32")
    assert list(lists.find_bad(lists.read(pa.chunked_array([vectors])))) == [1]


def test_vectors_for_no_model_are_as_long_as_the_first():
    codec = VectorListCodec(size=0, dtype="float32")
    held = codec.read(pa.chunked_array([[None, [1.0, 2.0], [3.0], [4.0, 5.0]]]))
    assert codec.find_bad(held) == {2: "has 1 numbers and must have 2"}
