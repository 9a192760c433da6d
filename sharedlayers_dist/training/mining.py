"""Hard negatives, mined before each epoch but the first by all ranks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import DataConfig
from sharedlayers_dist.data.reading.groups_reader import GroupsReader
from sharedlayers_dist.training.distinct_items import DistinctItems, join_ranks, share_blocks
from sharedlayers_dist.training.negatives import (
    Negatives,
    Window,
    cut_queries,
    find_negatives,
    make_candidates,
)
from sharedlayers_dist.training.position import Position


class MineNegatives(keras.callbacks.Callback):
    """Hands the reader the negatives of each epoch before that is read; adds figures to the logs.

    An epoch has those that the weights at its beginning give, also where a run goes on in the
    middle of it: they are part of the checkpoint, and so are their figures.

    Each rank encodes its share of the items and looks for the negatives of its share of them, in
    parts that are the same on any number of ranks, and so are the negatives.

    Every rank must make it.

    Args:
        view: Encodes items.
        reader: Plans the epochs.
        options: How many negatives there are, and how near they may be.
        at_once: Items that are encoded at a time.
        start: Where the run begins, or goes on.
        restored: Where it goes on in the middle of an epoch, its negatives, on rank zero.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self,
        view: models.EncodingView,
        reader: GroupsReader[Any],
        options: DataConfig,
        *,
        at_once: int,
        start: Position,
        restored: Sequence[NDArray[np.integer]] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._view = view
        self._reader = reader
        self._count = options.hard_negatives
        self._window = Window(options.hard_negatives_max_cosine, options.hard_negatives_margin)
        self._at_once = at_once
        self._start = start
        self._clock = clock
        self._items = reader.items_of_epochs
        self._distinct: DistinctItems | None = None
        self._figures: dict[str, float] = {}
        reader.negatives = next(iter(dist.broadcast_object([*restored])), None)

    def get_state(self) -> dict[str, float]:
        """The figures of the epoch's negatives; part of a checkpoint."""
        return self._figures

    def set_state(self, state: dict[str, float]) -> None:
        """Takes them back."""
        self._figures = state

    def negatives_at(self, position: Position) -> list[NDArray[np.integer]]:
        """What a checkpoint must hold: the negatives of an epoch that has begun."""
        negatives = self._reader.negatives
        return [] if negatives is None or not position.step_of_epoch else [negatives]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Mines, with all ranks; Keras makes the epoch's iterator after this."""
        if epoch == 0 or (epoch == self._start.epoch and self._start.step_of_epoch):
            return
        began = self._clock()
        found = self._mine()
        self._reader.negatives = None if found is None else self._as_places(found)
        self._figures = _describe(found) | {"mining_seconds": self._clock() - began}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Says what was found before the epoch."""
        if logs is not None:
            logs.update(self._figures)

    def _mine(self) -> Negatives | None:
        """Negatives among the items that epochs take; None for a model that is lost."""
        index, items = self._reader.index, self._items
        if self._distinct is None:
            self._distinct = DistinctItems(
                self._view,
                lambda blocks: self._reader.read_items(items[block] for block in blocks),
                self._reader.codecs.a,
                items.size,
                at_once=self._at_once,
                world=self._reader.world,
            )
        encodings = self._distinct.encode()
        if not np.isfinite(encodings).all():  # The run's loss will end it.
            return None
        candidates = make_candidates(
            encodings,
            self._distinct.of_item,
            index.group_of_item[items],
            index.key_of_item[items],
        )
        found = [
            find_negatives(candidates, block, self._count, self._window)
            for block in share_blocks(cut_queries(items.size), self._reader.world)
        ]
        return Negatives(
            join_ranks([part.items for part in found]), join_ranks([part.cosines for part in found])
        )

    def _as_places(self, found: Negatives) -> NDArray[np.int32]:
        """The negatives of all items, by their places among all."""
        places = np.full((self._reader.index.group_of_item.size, self._count), -1, np.int32)
        # The last stands for no item.
        places[self._items] = np.append(self._items, -1)[found.items]
        return places


def _describe(found: Negatives | None) -> dict[str, float]:
    """The share of items with a negative, and the mean cosine of all negatives to their items."""
    if found is None:
        return {"hard_negatives_share": 0.0, "hard_negatives_cosine": math.nan}
    is_found = found.items >= 0
    return {
        "hard_negatives_share": float(is_found.any(axis=1).mean()),
        "hard_negatives_cosine": float(found.cosines[is_found].mean(dtype=np.float64))
        if is_found.any()
        else math.nan,
    }
