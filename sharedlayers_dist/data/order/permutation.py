"""The only source of random order in reading, and what it is asked for."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Purpose(IntEnum):
    """What a permutation is for: part of its key, so that no two purposes share one.

    The values are part of the order of every run: new ones are added, none is changed.
    """

    LINE = 0
    """Row groups of an epoch; key (epoch, 0, 0)."""
    WINDOW = 1
    """Rows of a window; key (epoch, stream, window)."""
    PASS = 2
    """Row groups of one dataset of a mixture; key (pass, dataset, 0)."""
    ITEMS = 3
    """Items, for pairs made on the fly; key (epoch, 0, 0)."""
    GROUPS = 4
    """Groups, for pairs made on the fly; key (epoch, 0, 0)."""
    PAIRS = 5
    """Pairs of a batch made on the fly; key (epoch, step, 0)."""
    SIDES = 6
    """Which item of such a pair is `a`; key (epoch, step, 0)."""
    BATCHES = 7
    """Batches of an epoch of items; key (epoch, 0, 0)."""
    RETRIEVAL = 8
    """Groups of validation items, of which some are ranked; key (0, 0, 0)."""
    SEEDS = 9
    """Chunks of items that batches of hard negatives begin with; key (epoch, 0, 0)."""


def permutation(length: int, *, seed: int, purpose: Purpose, key: tuple[int, int, int]) -> Rows:
    """A permutation of `range(length)` that depends on `seed`, `purpose` and `key` alone.

    Sorting the raw output of Philox keeps it the same in every version of NumPy, which
    `Generator.permutation` does not promise (NEP 19).
    """
    spawn_key = (key[0], purpose, *key[1:])
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=spawn_key)).random_raw(length)
    return np.argsort(bits, kind="stable")
