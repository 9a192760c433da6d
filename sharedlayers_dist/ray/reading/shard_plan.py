"""How the plan of an epoch is cut into parts for shard actors; pure functions of plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data import Batch
from sharedlayers_dist.world import World


def count_parts(num_actors: int, *, num_trainers: int, num_streams: int) -> int:
    """Parts that all actors together read: a multiple of the trainers, as even as the streams let.

    The least common multiple of actors and trainers gives each actor the same number of parts, and
    each trainer the same share of every actor. Where there are too few streams for that, some
    actors have one part more than others, or none.
    """
    even = math.lcm(num_actors, num_trainers)
    if even <= num_streams:
        return even
    per_trainer = min(-(-num_actors // num_trainers), num_streams // num_trainers)
    return num_trainers * max(1, per_trainer)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerShare:
    """The parts that make up one trainer's share of each global batch.

    Part p of V reads the streams `j` with `j % V == p`, as rank p of V ranks would. V is a multiple
    of the N trainers, so `j % V % N == j % N`: trainer r's streams are those of the parts
    r, r + N, r + 2 N, ... Their rows lie in its batch by their positions in the epoch, which
    alternate between the parts.
    """

    world: World
    """Which trainer of how many."""
    num_parts: int
    """Parts of all trainers, a multiple of their number."""
    num_streams: int
    batch_size: int
    """Pairs of a global batch, over all trainers."""

    @property
    def parts(self) -> range:
        """The parts of this trainer."""
        return range(self.world.rank, self.num_parts, self.world.size)

    def positions(self, first_step: int, num_pairs: int) -> NDArray[np.int64]:
        """Positions in the epoch of this trainer's pairs of a few steps, shape `(own pairs,)`.

        Args:
            first_step: The first global step.
            num_pairs: Pairs of all these steps, over all trainers.
        """
        positions = np.arange(num_pairs) + first_step * self.batch_size
        return positions[positions % self.num_streams % self.world.size == self.world.rank]

    def join(self, batches: Sequence[Batch], positions: NDArray[np.int64]) -> Batch:
        """This trainer's pairs at `positions`, from what its parts have of them.

        Args:
            batches: The pairs of each of `parts`, in their order and without padding.
            positions: The places of all these pairs in the epoch, ascending, shape `(pairs,)`.
        """
        if len(batches) == 1:
            return batches[0]
        part_of_pair = positions % self.num_streams % self.num_parts // self.world.size
        joined: list[NDArray] = [
            np.empty((positions.size, *values.shape[1:]), values.dtype) for values in batches[0]
        ]
        for index, batch in enumerate(batches):
            places = np.flatnonzero(part_of_pair == index)
            for whole, values in zip(joined, batch, strict=True):
                whole[places] = values
        return Batch._make(joined)
