"""The order of an epoch: properties that hold for every dataset and every number of ranks."""

import subprocess
import sys
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sharedlayers_dist.data.order import epoch_plan
from sharedlayers_dist.data.order.options import OrderOptions
from sharedlayers_dist.data.order.permutation import Purpose, permutation
from sharedlayers_dist.data.order.pieces import default_window
from sharedlayers_dist.data.order.streams import streams_of_rank

RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 12)


def plan_epoch(row_counts, *, epoch, **options):
    return epoch_plan.plan_epoch(row_counts, OrderOptions(**options), epoch=epoch)


@st.composite
def plans(draw, max_groups=150, max_rows=20, min_streams=12):
    """Small epochs of every shape: empty groups, uneven groups, fewer rows than streams."""
    row_counts = draw(st.lists(st.integers(0, max_rows), min_size=1, max_size=max_groups))
    row_counts[draw(st.integers(0, len(row_counts) - 1))] += 1  # At least one row.
    return plan_epoch(
        row_counts,
        seed=draw(st.integers(0, 2**63)),
        epoch=draw(st.integers(0, 1000)),
        batch_size=draw(st.integers(1, 60)),
        num_streams=draw(st.integers(min_streams, 30)),
        window=draw(st.one_of(st.integers(1, 5), st.just(1))),
        run_length=draw(st.sampled_from([1, 1, 2, 3, 7, 50])),
        shuffle=draw(st.booleans()),
    )


def read_epoch(plan, size, start_step=0):
    """The rows of each rank's steps: `[rank][step] -> rows`."""
    return [
        [s.rows for s in plan.iter_steps(rank=rank, size=size, start_step=start_step)]
        for rank in range(size)
    ]


def global_batches(plan, size):
    """Each global batch put together again from what the ranks read, in order."""
    batches = []
    for step, of_ranks in enumerate(zip(*read_epoch(plan, size), strict=True)):
        positions = np.arange(
            step * plan.batch_size, min((step + 1) * plan.batch_size, plan.num_rows)
        )
        batch = np.full(positions.size, -1)
        for rank, rows in enumerate(of_ranks):
            batch[positions % plan.num_streams % size == rank] = rows
        batches.append(batch.tolist())
    return batches


@given(plans(), st.sampled_from(RANKS))
def test_every_row_is_read_exactly_once(plan, size):
    rows = np.concatenate([rows for steps in read_epoch(plan, size) for rows in steps])
    assert sorted(rows.tolist()) == list(range(plan.num_rows))


@given(plans())
@settings(max_examples=40)
def test_global_batches_are_the_same_on_any_number_of_ranks(plan):
    alone = [step.rows.tolist() for step in plan.iter_steps()]
    for size in RANKS:
        assert global_batches(plan, size) == alone


@given(plans(), st.sampled_from(RANKS))
def test_all_ranks_take_the_same_number_of_steps(plan, size):
    steps = {len(steps) for steps in read_epoch(plan, size)}
    assert steps == {plan.num_steps} == {-(-plan.num_rows // plan.batch_size)}


@given(plans(), st.sampled_from(RANKS), st.data())
def test_a_start_in_mid_epoch_gives_what_skipping_gives(plan, size, data):
    start = data.draw(st.integers(0, plan.num_steps))
    whole = read_epoch(plan, size)
    for rank, late in enumerate(read_epoch(plan, size, start)):
        assert [r.tolist() for r in late] == [r.tolist() for r in whole[rank][start:]]


@given(plans(), st.sampled_from(RANKS), st.integers(2, 9), st.data())
def test_several_steps_at_once_are_those_steps_end_to_end(plan, size, steps_at_once, data):
    start = data.draw(st.integers(0, plan.num_steps))
    rank = data.draw(st.integers(0, size - 1))
    place = {"rank": rank, "size": size, "start_step": start}
    at_once = list(plan.iter_steps(**place, steps_at_once=steps_at_once))
    assert [s.step for s in at_once] == list(range(start, plan.num_steps, steps_at_once))
    singly = list(plan.iter_steps(**place))
    counts = [count for s in at_once for count in s.counts.tolist()]
    assert counts == [s.rows.size for s in singly] == [count for s in singly for count in s.counts]
    rows_at_once, rows_singly = (
        [row for s in steps for row in s.rows.tolist()] for steps in (at_once, singly)
    )
    assert rows_at_once == rows_singly


@given(plans(), st.sampled_from(RANKS), st.sampled_from([1, 1, 2, 9]))
@example(plan_epoch([7] * 200, seed=0, epoch=0, batch_size=24, num_streams=12, window=1), 1, 1)
@example(plan_epoch([7] * 200, seed=0, epoch=0, batch_size=5, num_streams=12, window=3), 2, 1)
@example(
    plan_epoch([7] * 200, seed=0, epoch=0, batch_size=5, num_streams=12, window=3, run_length=4),
    2,
    3,
)
def test_row_groups_are_read_once_unless_a_border_between_ranks_cuts_them(
    plan, size, steps_at_once
):
    loads: dict[int, list[int]] = {}
    for rank in range(size):
        held: set[int] = set()
        for step in plan.iter_steps(rank=rank, size=size, steps_at_once=steps_at_once):
            new = pieces_of(plan, step.rows) - held
            for piece in new:
                loads.setdefault(piece, []).append(rank)
            held = (held | new) - set(step.finished.tolist())
            # Memory is bounded: what is held lies in the streams' current windows.
            assert len(held) <= plan.window * len(
                streams_of_rank(plan.num_streams, rank=rank, size=size)
            )
    if plan.shuffle:
        assert not [ranks for ranks in loads.values() if len(set(ranks)) == 1 < len(ranks)]
    assert sum(len(set(ranks)) - 1 for ranks in loads.values()) <= plan.num_streams - 1


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_runs_stay_together_and_lie_within_a_piece(row_counts, run_length, num_streams, window):
    plan = plan_epoch(
        row_counts,
        seed=0,
        epoch=0,
        batch_size=1,
        num_streams=num_streams,
        window=window,
        run_length=run_length,
    )
    group_ends = np.cumsum(row_counts)
    for stream in range(num_streams):
        start, stop = plan.segments[stream].tolist()
        item = 0
        while item < stop - start:
            rows = plan.read_window(stream, plan.window_of_item(stream, item)).rows
            # The window's part of each row group, cut into runs from its first row on.
            runs = []
            for group in np.unique(np.searchsorted(group_ends, rows, side="right")):
                part = np.sort(rows[np.searchsorted(group_ends, rows, side="right") == group])
                assert part.tolist() == list(range(part[0], part[-1] + 1))
                runs += [
                    tuple(part[first : first + run_length].tolist())
                    for first in range(0, part.size, run_length)
                ]
            left = {run[0]: run for run in runs}
            place = 0
            while place < rows.size:
                run = left.pop(int(rows[place]))
                assert rows[place : place + len(run)].tolist() == list(run)
                place += len(run)
            assert not left
            item += rows.size


def pieces_of(plan, rows):
    starts = np.sort(plan.piece_starts)
    return set(starts[np.searchsorted(starts, rows, side="right") - 1].tolist())


@given(st.integers(0, 3), st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_two_to_the_m_ranks_cut_the_fewest_row_groups(m, row_counts):
    plan = plan_epoch([*row_counts, 1], seed=3, epoch=0, batch_size=8, num_streams=16)
    for rank in range(2**m):
        segments = sorted(
            plan.segments[j].tolist() for j in streams_of_rank(16, rank=rank, size=2**m)
        )
        assert all(before[1] == after[0] for before, after in pairwise(segments))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 12])
def test_ranks_that_divide_the_batch_and_the_streams_read_equal_shares(size):
    plan = plan_epoch([100] * 24, seed=0, epoch=0, batch_size=240, num_streams=24)
    assert {len(rows) for steps in read_epoch(plan, size) for rows in steps} == {240 // size}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 12])
def test_ranks_that_divide_the_streams_differ_by_one_row_at_most(size):
    plan = plan_epoch([97] * 11, seed=0, epoch=0, batch_size=101, num_streams=24)
    for shares in zip(*read_epoch(plan, size), strict=True):
        lengths = [len(rows) for rows in shares]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("row_counts", "batch_size", "size", "rows_per_step_of_rank"),
    [
        ([3], 8, 4, [[1], [1], [1], [0]]),  # Fewer rows than ranks.
        ([0, 0, 5, 0], 2, 2, [[1, 1, 1], [1, 1, 0]]),  # Empty files; a short last batch.
        ([8], 4, 3, [[2, 2], [1, 1], [1, 1]]),  # 4 streams over 3 ranks: unequal, complete.
    ],
)
def test_steps_of_small_epochs(row_counts, batch_size, size, rows_per_step_of_rank):
    plan = plan_epoch(row_counts, seed=0, epoch=0, batch_size=batch_size, num_streams=4)
    shares = [[len(rows) for rows in steps] for steps in read_epoch(plan, size)]
    assert shares == rows_per_step_of_rank


@pytest.mark.parametrize("row_counts", [[20_000], [2] * 10_000, [0] * 5_000 + [1] * 3])
@pytest.mark.parametrize("size", [1, 4, 12])
def test_one_giant_row_group_and_ten_thousand_tiny_ones(row_counts, size):
    plan = plan_epoch(row_counts, seed=5, epoch=2, batch_size=512, num_streams=24)
    batches = global_batches(plan, size)
    assert sorted(chain.from_iterable(batches)) == list(range(sum(row_counts)))
    assert len(batches) == plan.num_steps


def test_without_shuffling_one_stream_reads_the_dataset_in_its_own_order():
    plan = plan_epoch([3, 0, 4], seed=1, epoch=1, batch_size=2, num_streams=1, shuffle=False)
    assert [step.rows.tolist() for step in plan.iter_steps()] == [[0, 1], [2, 3], [4, 5], [6]]


def test_without_shuffling_each_stream_reads_a_segment_of_the_dataset():
    plan = plan_epoch([3, 0, 4], seed=1, epoch=1, batch_size=7, num_streams=2, shuffle=False)
    assert plan.rows_of_step(0, rank=0, size=2).tolist() == [0, 1, 2, 3]
    assert plan.rows_of_step(0, rank=1, size=2).tolist() == [4, 5, 6]


def test_the_order_depends_on_seed_and_epoch():
    def order(**changed):
        options = {"seed": 0, "epoch": 0, "batch_size": 50, "num_streams": 4, "window": 2}
        return plan_epoch([10] * 5, **{**options, **changed}).rows_of_step(0).tolist()

    assert order() == order()
    assert len({tuple(order(seed=s, epoch=e)) for s in range(5) for e in range(5)}) == 25


@pytest.mark.parametrize(
    ("run_length", "batches"),
    [
        # What single rows gave before there were runs.
        (1, [[1, 10, 7, 0, 16, 8], [3, 14, 9, 2, 13, 6], [11, 12, 5, 4, 15]]),
        (3, [[3, 10, 8, 0, 15, 9], [1, 16, 5, 2, 12, 6], [11, 13, 7, 4, 14]]),
    ],
)
def test_the_order_never_changes_between_versions(run_length, batches):
    # A run that is resumed with a newer version relies on it.
    plan = plan_epoch(
        [4, 0, 7, 1, 5],
        seed=7,
        epoch=3,
        batch_size=6,
        num_streams=3,
        window=2,
        run_length=run_length,
    )
    assert [step.rows.tolist() for step in plan.iter_steps()] == batches


def test_runs_are_shuffled_and_not_only_cut():
    plan = plan_epoch(
        [64] * 4, seed=0, epoch=0, batch_size=1, num_streams=1, window=4, run_length=8
    )
    order = plan.read_window(0, 0).rows.reshape(-1, 8)
    assert np.array_equal(order - order[:, :1], np.tile(np.arange(8), (32, 1)))
    assert sorted(order[:, 0].tolist()) == list(range(0, 256, 8))
    groups = order[:, 0] // 64
    assert np.count_nonzero(np.diff(groups)) > 16  # Runs of the row groups are mixed.


def test_rows_of_a_batch_come_from_all_over_the_dataset():
    plan = plan_epoch([1000] * 100, seed=0, epoch=0, batch_size=240, num_streams=24)
    groups = np.unique(plan.rows_of_step(0) // 1000)
    assert len(groups) >= 24
    # Correlation of the order with the file order: none is left.
    order = np.concatenate([step.rows for step in plan.iter_steps()])
    assert abs(np.corrcoef(order, np.arange(order.size))[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("row_counts", "window"), [([8192], 1), ([1], 64), ([2048] * 9, 4), ([10**6, 10**6], 1)]
)
def test_the_default_window_shuffles_some_eight_thousand_rows(row_counts, window):
    assert default_window(np.array(row_counts)) == window


def test_permutations_are_complete_and_differ_by_seed_purpose_and_key():
    def draw(seed=1, purpose=Purpose.LINE, key=(0, 0, 0)):
        return tuple(permutation(30, seed=seed, purpose=purpose, key=key).tolist())

    assert sorted(draw()) == list(range(30))
    assert draw() == draw()
    others = [draw(seed=2), draw(purpose=Purpose.WINDOW), draw(key=(1, 0, 0)), draw(key=(0, 0, 1))]
    assert len({draw(), *others}) == 5


def test_more_ranks_than_streams_are_refused_with_a_remedy():
    plan = plan_epoch([9], seed=0, epoch=0, batch_size=4, num_streams=2)
    with pytest.raises(ValueError, match=r"ranks=3, num_streams=2\. Start at most 2 ranks"):
        plan.iter_steps(rank=0, size=3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"row_counts": [0, 0]}, "num_rows=0"),
        ({"row_counts": []}, "num_rows=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_streams": 0}, "num_streams=0"),
        ({"window": 0}, "window=0"),
        ({"run_length": 0}, "run_length=0"),
        ({"seed": -1}, "seed=-1"),
        ({"epoch": -1}, "epoch=-1"),
    ],
)
def test_impossible_plans_are_refused(changed, message):
    options = {"row_counts": [5], "seed": 0, "epoch": 0, "batch_size": 2, "num_streams": 2}
    with pytest.raises(ValueError, match=message):
        plan_epoch(**{**options, **changed})


@pytest.mark.parametrize("start_step", [-1, 4])
def test_a_start_outside_the_epoch_is_refused(start_step):
    plan = plan_epoch([6], seed=0, epoch=0, batch_size=2, num_streams=2)
    assert list(plan.iter_steps(start_step=3)) == []
    with pytest.raises(ValueError, match=f"start_step={start_step}"):
        plan.iter_steps(start_step=start_step)


def test_planning_loads_neither_tensorflow_nor_pyarrow():
    check = (
        "import sys, sharedlayers_dist.data.order.epoch_plan; "
        "print([m for m in ('tensorflow', 'pyarrow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
