"""Several datasets read as one."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.data import OrderOptions, index_dataset, index_mixture, resolve_alphabet
from sharedlayers_dist.data.mixture import DatasetMixture
from sharedlayers_dist.data.order.pieces import share_rows, take_pieces
from sharedlayers_dist.data.reading.dataset_plan import plan_dataset
from sharedlayers_dist.training.data_sources import open_source
from sharedlayers_dist.world import World
from tests.unit.data.samples import image_table, open_pairs, write_dataset


@pytest.mark.parametrize(
    ("num_rows", "weights", "shares"),
    [
        (10, (1, 1), [5, 5]),
        (10, (2, 1, 1), [5, 3, 2]),  # 2.5 and 2.5: the first gets the odd one.
        (7, (0.7, 0.3), [5, 2]),
        (1, (0.1, 0.9), [0, 1]),
        (100, (3,), [100]),
    ],
)
def test_shares_follow_the_weights_and_add_up(num_rows, weights, shares):
    assert share_rows(num_rows, weights) == shares


def rows_of(pieces):
    return [
        row
        for start, count in zip(pieces.starts, pieces.counts, strict=True)
        for row in range(int(start), int(start + count))
    ]


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(sum),
    st.integers(0, 40),
    st.integers(1, 6),
    st.booleans(),
)
def test_no_row_comes_again_before_all_others_have_come(row_counts, num_rows, epochs, shuffle):
    counts = np.array(row_counts)
    seen: Counter[int] = Counter()
    for epoch in range(epochs):
        pieces = take_pieces(counts, num_rows, seed=1, epoch=epoch, part=0, shuffle=shuffle)
        assert pieces.counts.sum() == num_rows
        seen.update(rows_of(pieces))
    times = [seen[row] for row in range(counts.sum())]
    assert max(times) - min(times) <= 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    return [
        write_dataset(folder / "big", [[10] * 5, [10] * 5], alphabet="ab0123456789"),
        write_dataset(folder / "small", [[4, 3], [0, 5]], alphabet="b"),
    ]


def open_reader(mixture, *, rank=0, size=1, **options):
    return open_pairs(
        mixture,
        alphabet=resolve_alphabet(mixture),
        world=World(rank=rank, size=size),
        **{"batch_size": 16, "seed": 2, "num_streams": 12, **options},
    )


def test_each_dataset_gives_its_share_of_every_epoch(folders):
    mixture = index_mixture({folders[0]: 1, folders[1]: 3}, num_rows=80)
    reader = open_reader(mixture)
    seen: Counter[int] = Counter()
    for epoch in range(3):
        rows = np.concatenate([batch.rows for batch in reader.batches(epoch)])
        assert len(rows) == 80
        assert (rows < 100).sum() == 20
        seen.update(rows.tolist())
    assert {seen[row] for row in range(100)} == {0, 1}  # 60 of 100 rows in three epochs.
    assert {seen[row] for row in range(100, 112)} == {15}  # 180 = 15 times 12.


def test_rows_are_those_of_their_dataset(folders):
    mixture = index_mixture(dict.fromkeys(folders, 1))
    for batch in open_reader(mixture).batches(1):
        for row, a, label in zip(batch.rows, batch.a, batch.label[:, 0], strict=True):
            own = row if row < 100 else row - 100
            text = "".join("ab0123456789"[i - 1] for i in a if i)
            assert (text, label) == (f"a{own}", own % 2)


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.integers(1, 400),
    st.integers(0, 3),
    st.sampled_from([(1, 1), (1, 4), (2, 4), (3, 12)]),
    st.integers(1, 40),
    st.booleans(),
)
@example((3, 1), 317, 1, (1, 1), 40, False)  # A row group is let go of in one piece, and read on.
def test_every_planned_row_is_read_in_any_part_of_any_pass(
    folders, weights, num_rows, epoch, ranks_of_streams, batch_size, shuffle
):
    mixture = index_mixture(dict(zip(folders, weights, strict=True)), num_rows)
    size, num_streams = ranks_of_streams
    options = {"num_streams": num_streams, "batch_size": batch_size, "window": 1}
    for rank in range(size):
        reader = open_reader(mixture, rank=rank, size=size, shuffle=shuffle, **options)
        read = [batch.rows.tolist() for batch in reader.batches(epoch)]
        planned = reader.reading.plan(epoch).iter_steps(rank=rank, size=size)
        assert read == [step.rows.tolist() or [-1] for step in planned]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_order_is_the_same_on_any_number_of_ranks(folders, size):
    mixture = index_mixture({folders[0]: 1, folders[1]: 2}, num_rows=70)
    alone = [batch.rows.tolist() for batch in open_reader(mixture).batches(4)]
    of_ranks = [open_reader(mixture, rank=r, size=size).batches(4) for r in range(size)]
    for step, parts in enumerate(zip(*of_ranks, strict=True)):
        positions = np.arange(step * 16, min(step * 16 + 16, 70))
        batch = np.full(positions.size, -1)
        for rank, part in enumerate(parts):
            batch[positions % 12 % size == rank] = part.rows
        assert batch.tolist() == alone[step]


def test_each_dataset_is_shuffled_in_runs_of_its_own_length(folders, tmp_path):
    runs = write_dataset(tmp_path, [[40, 40], [40]], run_length=8)
    options = OrderOptions(seed=0, batch_size=16, num_streams=1)
    mixture = index_mixture({runs: 1, folders[0]: 1})
    rows = plan_dataset(mixture, options, epoch=0).read_window(0, 0).rows
    follows = np.diff(rows) == 1
    is_first = rows[:-1] < 120
    # Seven of eight rows of a run are followed by the next; a run may follow its neighbour too.
    assert follows[is_first].mean() > 0.8
    assert follows[~is_first].mean() < 0.1
    single = replace(options, run_length=1)
    rows = plan_dataset(mixture, single, epoch=0).read_window(0, 0).rows
    assert (np.diff(rows) == 1).mean() < 0.1


def test_a_mixture_of_one_dataset_has_its_rows(folders):
    mixture = index_mixture({folders[0]: 0.5})
    assert mixture.num_rows == 100
    rows = np.concatenate([batch.rows for batch in open_reader(mixture).batches(0)])
    assert sorted(rows.tolist()) == list(range(100))


def test_the_first_datasets_alphabet_is_the_mixtures(folders):
    assert resolve_alphabet(index_mixture(dict.fromkeys(folders, 1))) == "ab0123456789"


def test_weights_and_rows_are_part_of_the_fingerprint(folders):
    prints = {
        index_mixture({folders[0]: weight, folders[1]: 1}, num_rows).fingerprint
        for weight in (1, 2)
        for num_rows in (None, 50)
    }
    assert len(prints) == 4


def test_a_row_of_a_mixture_is_found_in_its_dataset(folders):
    mixture = index_mixture(dict.fromkeys(folders, 1))
    first, second = mixture.parts
    assert mixture.place_of_row(99) == first.place_of_row(99)
    assert mixture.place_of_row(100) == second.place_of_row(0)
    assert mixture.place_of_row(111) == second.place_of_row(11)
    groups = range(mixture.row_counts.size)
    places = [mixture.place_of_group(group) for group in groups]
    assert places == [p.place_of_group(g) for p in mixture.parts for g in range(p.row_counts.size)]


def test_datasets_of_different_items_are_refused(folders, tmp_path):
    images = write_dataset(tmp_path, [[2]], image_table)
    wanted = f"kind='image' in column 'a' of {images}, kind='text' in column 'a' of {folders[0]}"
    with pytest.raises(ValueError, match=wanted):
        index_mixture({folders[0]: 1, images: 1})


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_that_are_no_shares_are_refused(folders, weight):
    with pytest.raises(ValueError, match="Weights must be positive"):
        index_mixture({folders[0]: 1, folders[1]: weight})


def test_a_dataset_is_mixed_in_once_however_it_is_spelled(folders):
    uri = str(folders[0])
    for other in (uri, f"{uri}/", f"file://{uri}", f"{uri}/../{uri.rpartition('/')[2]}"):
        with pytest.raises(ValueError, match="takes each dataset once"):
            index_mixture([(uri, 1.0), (other, 0.5)])
    config = TrainConfig(pairs=uri, output="unused", mix=(f"0.5*{uri}",))
    with pytest.raises(ValueError, match="takes each dataset once"):
        open_source(config, {})


def test_a_mixture_needs_datasets_and_rows(folders):
    with pytest.raises(ValueError, match="0 datasets"):
        index_mixture({})
    with pytest.raises(ValueError, match="num_rows=0"):
        DatasetMixture(parts=(index_dataset(folders[0]),), weights=(1,), num_rows=0)
