"""Pairs made on the fly: batches of P groups times K items."""

import pickle
import re
import threading
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sharedlayers_dist.data import ItemColumn, PKReader, as_tf_dataset, read_items
from sharedlayers_dist.data.order.pk_batches import pair_items, plan_groups
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.unit.data.samples import codecs_for

ALPHABET = "item0123456789"


@st.composite
def epochs(draw):
    groups = np.array(draw(st.lists(st.integers(0, 8), min_size=3, max_size=80)))
    sizes = np.bincount(groups)
    assume(np.count_nonzero(sizes) > 1 and sizes.max() > 1)
    options = {
        "groups_per_batch": draw(st.integers(2, 6)),
        "items_per_group": draw(st.integers(2, 5)),
        "seed": draw(st.integers(0, 9)),
        "epoch": draw(st.integers(0, 9)),
    }
    return groups, options


@given(epochs())
def test_every_item_is_in_one_batch_of_an_epoch(epoch):
    groups, options = epoch
    plan = plan_groups(groups, **options)
    assert sorted(plan.items.tolist()) == list(range(len(groups)))
    assert items_of_steps(plan).min() > 1


@given(epochs(), st.integers(1, 7))
def test_the_ranks_share_out_a_batch_by_whole_chunks_of_one_group(epoch, size):
    groups, options = epoch
    plan = plan_groups(groups, **options)
    chunks = np.split(groups[plan.items], plan.chunk_starts[1:-1])
    assert all(len(set(chunk.tolist())) == 1 for chunk in chunks)
    starts = set(plan.chunk_starts.tolist())
    begin = 0
    for step in range(plan.num_steps):
        shares = [plan.items_of_step(step, rank=rank, size=size) for rank in range(size)]
        np.testing.assert_array_equal(np.concatenate(shares), plan.items_of_step(step))
        for share in shares:
            begin += len(share)
            assert begin in starts


@given(epochs())
def test_no_two_chunks_of_a_group_are_in_a_batch_unless_there_are_more_than_batches(epoch):
    groups, options = epoch
    plan = plan_groups(groups, **options)
    chunks_of_group = -(-np.bincount(groups) // options["items_per_group"])
    most = -(-chunks_of_group // plan.num_steps)
    for step in range(plan.num_steps):
        starts = plan.chunk_starts[plan.batch_starts[step] : plan.batch_starts[step + 1]]
        found = np.bincount(groups[plan.items[starts]], minlength=len(most))
        assert (found <= most).all()


@given(epochs())
def test_whole_chunks_alone(epoch):
    groups, options = epoch
    groups = np.append(groups, np.repeat([0, 1], 5))
    k, sizes = options["items_per_group"], np.bincount(groups)
    plan = plan_groups(groups, **options, whole_chunks=True)
    assert (np.diff(plan.chunk_starts) == k).all()
    np.testing.assert_array_equal(
        np.bincount(groups[plan.items], minlength=len(sizes)), sizes // k * k
    )


def test_groups_without_a_whole_chunk_are_refused():
    with pytest.raises(UserError, match="Received: 1 groups of 3 items or more"):
        plan_groups(
            np.array([0, 0, 0, 1, 1]),
            groups_per_batch=2,
            items_per_group=3,
            seed=0,
            epoch=0,
            whole_chunks=True,
        )


def items_of_steps(plan):
    return np.array([len(plan.items_of_step(step)) for step in range(plan.num_steps)])


@given(epochs())
def test_a_batch_has_about_p_chunks_of_at_most_k_items(epoch):
    groups, options = epoch
    plan = plan_groups(groups, **options)
    num_chunks = sum(-(-size // options["items_per_group"]) for size in np.bincount(groups))
    p = options["groups_per_batch"]
    assert plan.num_steps == max(1, num_chunks // p)
    most = -(-num_chunks // plan.num_steps) * options["items_per_group"]
    assert items_of_steps(plan).max() <= most


@given(epochs(), st.integers(2, 7))
def test_the_ranks_share_all_pairs_of_a_batch(epoch, size):
    groups, options = epoch
    key = {"seed": options["seed"], "epoch": options["epoch"], "step": 1}
    alone = pair_items(groups, **key)
    unordered = {tuple(sorted(pair)) for pair in zip(alone.a, alone.b, strict=True)}
    assert unordered == set(combinations(range(len(groups)), 2))
    assert (alone.label == (groups[alone.a] == groups[alone.b])).all()
    for rank in range(size):
        part = pair_items(groups, **key, rank=rank, size=size)
        for name in alone._fields:
            np.testing.assert_array_equal(getattr(part, name), getattr(alone, name)[rank::size])


def test_positives_and_negatives_weigh_the_same():
    pairs = pair_items(np.array([0, 0, 1, 1, 2, 2]), seed=0, epoch=0, step=0)
    positive = pairs.label == 1
    assert pairs.weight[positive].sum() == pytest.approx(pairs.weight[~positive].sum())
    assert pairs.weight.mean() == pytest.approx(1)


def test_batches_of_equal_groups_have_p_groups_of_k_items():
    groups = np.repeat(np.arange(40), 4)
    plan = plan_groups(groups, groups_per_batch=8, items_per_group=4, seed=0, epoch=0)
    assert plan.num_steps == 5
    for step in range(5):
        assert (
            np.unique(groups[plan.items_of_step(step)], return_counts=True)[1].tolist() == [4] * 8
        )


def test_a_large_group_is_spread_over_the_epoch():
    groups = np.concatenate([np.zeros(100, int), np.repeat(np.arange(1, 101), 2)])
    plan = plan_groups(groups, groups_per_batch=10, items_per_group=2, seed=0, epoch=0)
    shares = [np.mean(groups[plan.items_of_step(s)] == 0) for s in range(plan.num_steps)]
    assert 0.2 < min(shares) <= max(shares) < 0.5


def test_epochs_differ():
    groups = np.repeat(np.arange(10), 4)

    def order(epoch):
        plan = plan_groups(groups, groups_per_batch=2, items_per_group=2, seed=0, epoch=epoch)
        return tuple(plan.items.tolist())

    orders = {order(epoch) for epoch in range(5)}
    assert len(orders) == 5


@pytest.mark.parametrize(
    ("groups", "p", "k", "message"),
    [
        ([0, 0, 1], 1, 2, "groups_per_batch=1"),
        ([0, 0, 1], 2, 1, "items_per_group=1"),
        ([0, 0, 0], 2, 2, "1 groups of at most 3 items"),
        ([0, 1, 2], 2, 2, "3 groups of at most 1 items"),
        ([], 2, 2, "0 groups of at most 0 items"),
    ],
)
def test_items_that_make_no_pairs_of_both_kinds_are_refused(groups, p, k, message):
    with pytest.raises(ValueError, match=message):
        plan_groups(np.array(groups, int), groups_per_batch=p, items_per_group=k, seed=0, epoch=0)


@pytest.fixture
def texts(tmp_path):
    for part in range(2):
        numbers = range(part * 20, part * 20 + 20)
        table = pa.table(
            {"who": [f"g{n % 7}" for n in numbers], "text": [f"item{n}" for n in numbers]}
        )
        pq.write_table(table, tmp_path / f"{part}.parquet")
    return read_items(str(tmp_path), item="text", group="who")


def test_items_travel_as_the_place_where_they_are_read(texts, tmp_path):
    """What ranks tell each other does not grow with the items, but with their number."""
    numbers = range(500)
    table = pa.table(
        {"who": [f"g{n % 7}" for n in numbers], "text": [f"item{n}" * 99 for n in numbers]}
    )
    pq.write_table(table, tmp_path / "1.parquet")
    items = read_items(str(tmp_path), item="text", group="who")
    assert len(items.items) == 520
    sent = pickle.dumps(items)
    assert len(sent) < 520 * 24 + 3000
    received = pickle.loads(sent)
    assert received.items.equals(items.items)
    assert received.group_of_item.tolist() == items.group_of_item.tolist()
    assert received.fingerprint == items.fingerprint


@pytest.mark.parametrize("name", ["who", "text"])
def test_others_than_were_read_first_are_refused(texts, tmp_path, name):
    received = pickle.loads(pickle.dumps(texts))
    table = pq.read_table(tmp_path / "1.parquet")
    others = pa.array(["g0", *table[name].to_pylist()[1:]])
    pq.write_table(
        table.set_column(table.column_names.index(name), name, others), tmp_path / "1.parquet"
    )
    with pytest.raises(ValueError, match=r"All ranks must read the same items. Received: .*1\.par"):
        _ = received.items


def open_reader(items, *, rank=0, size=1, **options):
    return PKReader(
        items,
        codec=codecs_for(items, ALPHABET).a,
        groups_per_batch=3,
        items_per_group=3,
        seed=0,
        world=World(rank=rank, size=size),
        **options,
    )


def test_a_batch_has_all_pairs_of_its_items(texts):
    reader = open_reader(texts)
    lengths = []
    for batch in reader.batches(2):
        first, second = np.divmod(batch.rows, 40)
        assert batch.label[:, 0].tolist() == (first % 7 == second % 7).tolist()
        lengths.append(len(batch.rows))
    assert lengths == [n * (n - 1) // 2 for n in items_of_steps(reader.plan(2))]


@pytest.mark.parametrize("size", [2, 3, 50])
def test_any_number_of_ranks_shares_the_same_batches(texts, size):
    alone = list(open_reader(texts).batches(1))
    of_ranks = [list(open_reader(texts, rank=r, size=size).batches(1)) for r in range(size)]
    for step, batch in enumerate(alone):
        parts = [batches[step] for batches in of_ranks]
        for rank, part in enumerate(parts):
            expected = batch.rows[rank::size].tolist() or [-1]  # Padding.
            assert part.rows.tolist() == expected


def test_nothing_ahead_is_refused(texts):
    with pytest.raises(ValueError, match="batches_ahead=0"):
        open_reader(texts, batches_ahead=0)


def test_they_feed_a_model_like_a_list_of_pairs(texts):
    reader = open_reader(texts)
    labels = [y.numpy().tolist() for _, y, _ in as_tf_dataset(reader, lambda: (3, 1))]
    assert labels == [batch.label.tolist() for batch in reader.batches(3, 1)]
    assert not [t for t in threading.enumerate() if t.name.startswith("sharedlayers")]


def write_images(folder, *, shift=0):
    item = pa.fixed_shape_tensor(pa.uint8(), (2, 2, 1))
    images = pa.array([[n + shift] * 4 for n in range(6)], item)
    folder.mkdir()
    pq.write_table(pa.table({"image": images, "digit": [0, 1] * 3}), folder / "1.parquet")
    return str(folder)


def test_images_are_read(tmp_path):
    items = read_items(write_images(tmp_path / "plain"), item="image", group="digit")
    assert items.column == ItemColumn(kind="image", shape=(2, 2, 1), dtype="uint8")
    darker = read_items(write_images(tmp_path / "darker", shift=1), item="image", group="digit")
    assert darker.fingerprint != items.fingerprint


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["x"]}, "1.parquet has no column 'who'"),
        ({"text": [1.5, 2.5], "who": [1, 2]}, "column 'text' of type double"),
    ],
)
def test_items_of_columns_that_cannot_be_used_are_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=message):
        read_items(str(tmp_path), item="text", group="who")


def test_files_with_other_items_than_the_first_are_refused(texts, tmp_path):
    pq.write_table(pa.table({"text": [[1, 2]], "who": ["g1"]}), tmp_path / "2.parquet")
    with pytest.raises(UserError, match=r"with ids of tokens in .*/2\.parquet, with text in the"):
        read_items(str(tmp_path), item="text", group="who")


NOT_UTF8 = pa.StringArray.from_buffers(
    4, *pa.array([b"a", b"b", b"c", b"\xff"], pa.binary()).buffers()[1:]
)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", "b", "c", None], "who": [1, 1, 2, 2]}, "row 1: column 'text' is null"),
        ({"text": ["a", "b", "c", "d"], "who": [1, 1, 2, None]}, "row 1: column 'who' is null"),
        ({"text": NOT_UTF8, "who": [1, 1, 2, 2]}, "row 1: column 'text' is not UTF-8"),
    ],
)
def test_a_bad_item_is_named_or_left_out_and_counted_once(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "1.parquet", row_group_size=2)
    place = f"{tmp_path}/1.parquet, row group 1, {message}"
    with pytest.raises(ValueError, match=f"^{re.escape(place)}.*--on-bad-row skip"):
        read_items(str(tmp_path), item="text", group="who")
    items = read_items(str(tmp_path), item="text", group="who", on_bad_row="skip")
    assert not isinstance(items.items, np.ndarray)
    assert items.items.to_pylist() == ["a", "b", "c"]
    assert items.group_of_item.tolist() == [0, 0, 1]
    readers = [open_reader(items, rank=rank, size=2) for rank in range(2)]
    assert [reader.stats.num_bad_rows for reader in readers] == [1, 0]
    assert readers[0].stats.problems == [place]


def test_a_corrupt_row_group_of_items_is_named_or_left_out(tmp_path):
    table = pa.table(
        {"text": [f"item {n}" for n in range(400)], "who": [n % 7 for n in range(400)]}
    )
    path = tmp_path / "1.parquet"
    pq.write_table(table, path, row_group_size=200)
    damaged = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
    damaged[start : start + 100] = b"\xff" * 100
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"1\.parquet, row group 1 cannot be read"):
        read_items(str(tmp_path), item="text", group="who")
    items = read_items(str(tmp_path), item="text", group="who", on_bad_row="skip")
    assert (len(items.items), items.num_bad_rows) == (200, 200)
    assert "1.parquet, row group 1 cannot be read" in items.problems[0]
