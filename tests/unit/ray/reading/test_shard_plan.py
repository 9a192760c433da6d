"""Parts for shard actors: joined, they are what the trainer would read itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharedlayers_dist import World
from sharedlayers_dist.data import Batch
from sharedlayers_dist.ray.reading.shard_plan import TrainerShare, count_parts
from tests.unit.data.order.test_epoch_plan import plans


@pytest.mark.parametrize(
    ("num_actors", "num_trainers", "num_streams", "num_parts"),
    [
        (1, 1, 24, 1),
        (3, 1, 24, 3),
        (1, 3, 24, 3),
        (4, 2, 24, 4),
        (3, 2, 24, 6),
        (5, 4, 24, 20),
        (7, 4, 24, 8),
        (16, 3, 24, 18),
        (100, 1, 24, 24),
        (2, 24, 24, 24),
        (5, 24, 24, 24),
    ],
)
def test_parts_are_even_where_there_are_streams_enough(
    num_actors, num_trainers, num_streams, num_parts
):
    counted = count_parts(num_actors, num_trainers=num_trainers, num_streams=num_streams)
    assert counted == num_parts


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 60))
def test_every_trainer_has_the_same_number_of_parts_and_every_part_a_stream(
    num_actors, num_trainers, more
):
    num_streams = num_trainers + more
    num_parts = count_parts(num_actors, num_trainers=num_trainers, num_streams=num_streams)
    assert num_parts % num_trainers == 0
    assert num_trainers <= num_parts <= num_streams


def batch_of(rows):
    """A batch of which every array says which row is which."""
    item = np.repeat(rows[:, None], 3, axis=1)
    return Batch(a=item, b=-item, label=rows[:, None] / 2, weight=rows / 4, rows=rows)


@given(plans(), st.integers(1, 30), st.integers(1, 12), st.data())
def test_joined_parts_are_the_trainers_own_batch_row_for_row(plan, num_actors, size, data):
    rank = data.draw(st.integers(0, size - 1))
    share = TrainerShare(
        world=World(rank=rank, size=size),
        num_parts=count_parts(num_actors, num_trainers=size, num_streams=plan.num_streams),
        num_streams=plan.num_streams,
        batch_size=plan.batch_size,
    )
    start = data.draw(st.integers(0, plan.num_steps))
    steps = {"start_step": start, "steps_at_once": data.draw(st.integers(1, 5))}
    of_parts = [plan.iter_steps(rank=part, size=share.num_parts, **steps) for part in share.parts]
    own = plan.iter_steps(rank=rank, size=size, **steps)
    for mine, *parts in zip(own, *of_parts, strict=True):
        first = mine.step * plan.batch_size
        num_pairs = min(mine.counts.size * plan.batch_size, plan.num_rows - first)
        positions = share.positions(mine.step, num_pairs)
        joined = share.join([batch_of(part.rows) for part in parts], positions)
        for values, expected in zip(joined, batch_of(mine.rows), strict=True):
            np.testing.assert_array_equal(values, expected)
