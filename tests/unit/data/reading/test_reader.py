"""What every reader keeps, wherever its batches are made: one contract, run for each of them."""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.data import (
    OrderOptions,
    PairReading,
    PKReader,
    encode_text,
    index_dataset,
    read_items,
)
from sharedlayers_dist.data.reading.item_loader import LocalItemLoader
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.unit.data.samples import codecs_for, image_table, text_table, with_column, write_dataset

ALPHABET = "abitem0123456789"
BAD_ROWS = (3, 7)
"""Of the first row group."""
LONG_TEXTS = (1, 5)
SHAPE = (3, 2, 1)


def read_all(batches):
    """Copies of all arrays of each batch."""
    return [[values.copy() for values in batch] for batch in batches]


def rows_of(batches):
    return np.concatenate([batch.rows for batch in batches])


def assert_same(batches, expected):
    for batch, wanted in zip(batches, expected, strict=True):
        for values, wanted_values in zip(batch, wanted, strict=True):
            assert values.dtype == wanted_values.dtype
            np.testing.assert_array_equal(values, wanted_values)


class ReaderContract:
    """A subclass gives the fixture `source`, by which readers are opened over what it writes.

    A source has `write(kind, *, bad=False, long=False)` to write items or pairs of a kind,
    `open(rank=0, size=1, on_bad_row="error")` for the reader of one rank, `open_failing()` for a
    reader that fails when it reads, and `items_of(rows)`: what `a` and `b` of these rows must be.
    """

    @pytest.fixture(params=["text", "image"])
    def filled(self, source, request):
        """The source with items of one kind."""
        source.write(request.param)
        return source

    def test_batches_hold_the_items_that_their_rows_name(self, filled):
        reader = filled.open()
        batches = list(reader.batches(2))
        assert len(batches) == reader.steps_per_epoch > 2
        for batch in batches:
            for values, expected in zip(
                (batch.a, batch.b), filled.items_of(batch.rows), strict=True
            ):
                assert values.dtype == expected.dtype
                np.testing.assert_array_equal(values, expected)
            assert (batch.label.shape, batch.label.dtype) == ((len(batch.rows), 1), np.float32)
            assert set(batch.label[:, 0].tolist()) <= {0, 1}
            assert (batch.weight.shape, batch.weight.dtype) == (batch.rows.shape, np.float32)
            assert batch.rows.dtype == np.int64

    def test_a_start_in_mid_epoch_gives_what_skipping_gives(self, filled):
        reader = filled.open(rank=1, size=2)
        whole = read_all(reader.batches(1))
        for start in (0, 1, reader.steps_per_epoch - 1, reader.steps_per_epoch):
            assert_same(reader.batches(1, start), whole[start:])
        with pytest.raises(UserError, match=f"start_step={reader.steps_per_epoch + 1}"):
            reader.batches(1, reader.steps_per_epoch + 1)

    @pytest.mark.parametrize("size", [2, 3])
    def test_any_number_of_ranks_shares_the_same_batches(self, filled, size):
        alone = [batch.rows for batch in filled.open().batches(3)]
        of_ranks = [list(filled.open(rank=rank, size=size).batches(3)) for rank in range(size)]
        for rows, *parts in zip(alone, *of_ranks, strict=True):
            shared = rows_of(parts)
            assert sorted(shared[shared >= 0].tolist()) == sorted(rows.tolist())

    def test_a_rank_without_rows_gets_one_padding_row(self, filled):
        readers = [filled.open(rank=rank, size=12) for rank in range(12)]
        some = next(readers[0].batches(0))
        batches = [batch for reader in readers for batch in reader.batches(0)]
        assert len(batches) == 12 * readers[0].steps_per_epoch
        padding = [batch for batch in batches if batch.rows[0] == -1]
        assert len(padding) > 0
        for batch in padding:
            assert batch.rows.tolist() == [-1]
            assert (batch.label.tolist(), batch.weight.tolist()) == ([[-1]], [0])
            for values, others in zip(batch, some, strict=True):
                assert (values.dtype, values.shape[1:]) == (others.dtype, others.shape[1:])
            assert not batch.a.any()
            assert not batch.b.any()

    def test_several_iterators_do_not_disturb_each_other(self, filled):
        reader = filled.open()
        three = list(zip(reader.batches(0), reader.batches(0), reader.batches(1), strict=True))
        assert all(x.rows.tolist() == y.rows.tolist() for x, y, _ in three)
        assert any(x.rows.tolist() != z.rows.tolist() for x, _, z in three)

    @pytest.mark.parametrize("num_taken", [0, 1, None])
    @pytest.mark.parametrize("how", ["closed", "dropped"])
    def test_threads_end_with_the_iterator(self, source, num_taken, how):
        source.write("text")
        before = set(threading.enumerate())
        reader = source.open()
        batches = reader.batches(0)
        assert set(threading.enumerate()) - before
        for _ in range(reader.steps_per_epoch if num_taken is None else num_taken):
            next(batches)
        if how == "closed":
            with batches:
                pass
            assert next(batches, None) is None
        del batches
        assert set(threading.enumerate()) - before == set()
        assert len(list(reader.batches(0))) == reader.steps_per_epoch

    def test_bad_rows_are_counted_and_where_they_lie_is_told(self, filled):
        filled.write(filled.kind, bad=True)
        readers = [filled.open(rank=rank, size=2, on_bad_row="skip") for rank in range(2)]
        for reader in readers:
            list(reader.batches(0))
        assert sum(reader.stats.num_bad_rows for reader in readers) == len(BAD_ROWS)
        (problem,) = {problem for reader in readers for problem in reader.stats.problems}
        assert f"part-00000.parquet, row group 0, row {BAD_ROWS[0]}: " in problem

    def test_truncated_texts_are_counted_in_each_epoch(self, source):
        source.write("text", long=True)
        reader = source.open()
        for epoch in range(2):
            list(reader.batches(epoch))
            assert reader.stats.num_truncated == (epoch + 1) * len(LONG_TEXTS)

    def test_the_time_spent_waiting_is_counted(self, source):
        source.write("text")
        reader = source.open()
        assert reader.stats.wait_seconds == 0
        list(reader.batches(0))
        assert reader.stats.wait_seconds > 0
        assert reader.stats.error is None

    def test_what_reading_fails_with_is_raised_and_kept(self, source):
        before = set(threading.enumerate())
        reader = source.open_failing()
        with pytest.raises(ValueError, match=r"row group 0(, row 3| with other items)") as raised:
            list(reader.batches(0))
        assert reader.stats.error is raised.value
        assert set(threading.enumerate()) - before == set()


class PairSource:
    """Pairs in files. `open_reader` opens the reader of one rank of a `PairReading`."""

    def __init__(self, folder, open_reader=PairReading.open):
        self.folder, self.open_reader = folder, open_reader

    def write(self, kind, *, bad=False, long=False):
        self.kind = kind
        make = text_table if kind == "text" else image_table
        write_dataset(self.folder, [[13, 0, 7], [17]], make)
        table = make(20)
        if bad:
            labels = [None if row in BAD_ROWS else row % 2 for row in range(20)]
            table = with_column(table, "label", labels, "int8")
        if long:
            texts = ["a" * (281 if row in LONG_TEXTS else 280) for row in range(20)]
            table = with_column(table, "a", texts, "string")
        if bad or long:
            pq.write_table(table, self.folder / "part-00000.parquet", row_group_size=13)

    def open(self, *, rank=0, size=1, on_bad_row="error"):
        index = index_dataset(str(self.folder))
        reading = PairReading(
            index=index,
            codecs=codecs_for(index, ALPHABET),
            options=OrderOptions(seed=3, batch_size=8, num_streams=12),
            on_bad_row=on_bad_row,
        )
        return self.open_reader(reading, World(rank=rank, size=size))

    def open_failing(self):
        self.write("text", bad=True)
        return self.open()

    def items_of(self, rows):
        if self.kind == "text":
            return [
                encode_text(pa.array([f"{side}{row}" for row in rows]), ALPHABET, 280)
                for side in "ab"
            ]
        return [
            np.broadcast_to(
                (rows + shift).astype(np.uint8)[:, None, None, None], (len(rows), *SHAPE)
            )
            for shift in (0, 1)
        ]


class ItemSource:
    """Items in files, of which pairs are made on the fly. `open_items` gives the items."""

    num_items = 40

    def __init__(self, folder, open_items=LocalItemLoader):
        self.folder, self.open_items = folder, open_items

    def write(self, kind, *, bad=False, long=False):
        self.kind = kind
        for part in range(2):
            numbers = range(part * 20, part * 20 + 20)
            if kind == "text":
                texts = [f"item{n}" for n in numbers]
                if long and part == 0:
                    texts = ["i" * (281 if n in LONG_TEXTS else 280) for n in numbers]
                items = pa.array(texts)
            else:
                item = pa.fixed_shape_tensor(pa.uint8(), SHAPE)
                items = pa.array([[n] * 6 for n in numbers], item)
            who = [None if bad and n in BAD_ROWS else n % 7 for n in numbers]
            table = pa.table({"item": items, "who": who})
            pq.write_table(table, self.folder / f"part-{part:05}.parquet")

    def open(self, *, rank=0, size=1, on_bad_row="error"):
        items = read_items(str(self.folder), item="item", group="who", on_bad_row=on_bad_row)
        return self.open_over(items, World(rank=rank, size=size))

    def open_over(self, items, world):
        return PKReader(
            items,
            codec=codecs_for(items, ALPHABET).a,
            groups_per_batch=2,
            items_per_group=2,
            seed=3,
            world=world,
            open_items=self.open_items,
        )

    def open_failing(self):
        self.write("text")
        items = read_items(str(self.folder), item="item", group="who")
        self.write("text", long=True)  # Others than those that are known.
        return self.open_over(items, World())

    def items_of(self, rows):
        numbers = np.divmod(rows, self.num_items)
        if self.kind == "text":
            sides = [pa.array([f"item{n}" for n in side]) for side in numbers]
            return [encode_text(side, ALPHABET, 280) for side in sides]
        return [
            np.broadcast_to(side.astype(np.uint8)[:, None, None, None], (len(rows), *SHAPE))
            for side in numbers
        ]


class TestPairReader(ReaderContract):
    @pytest.fixture
    def source(self, tmp_path):
        return PairSource(tmp_path)


class TestPKReader(ReaderContract):
    @pytest.fixture
    def source(self, tmp_path):
        return ItemSource(tmp_path)
