"""Measuring retrieval after each epoch: the validation items, encoded and ranked by all ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.data import GroupedItems, ItemCodec, read_items
from sharedlayers_dist.data.items.codec import take_items
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets
from sharedlayers_dist.training.data_sources import CodedSource
from sharedlayers_dist.training.distinct_items import DistinctItems, join_ranks
from sharedlayers_dist.training.retrieval import (
    FIGURES,
    Estimate,
    choose_items,
    estimate,
    find_queries,
    measure_queries,
)
from sharedlayers_dist.world import World

_WITH_INTERVAL = ("recall_at_1", "map_at_r")
_UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedItems:
    """Which validation items are ranked, and how they are encoded."""

    source: GroupedItems
    codec: ItemCodec
    places: Rows
    """Of the items in the source, ascending."""
    at_once: int
    """Items of a rank that are encoded at a time."""
    seed: int
    """Seed of the intervals."""

    def read(self, blocks: Iterable[Rows]) -> Iterator[NDArray]:
        """Gives what the model takes of some, by their numbers among the ranked ones."""
        for numbers in blocks:
            yield self.codec.encode(take_items(self.source.items, self.places[numbers])).values

    @property
    def group(self) -> Rows:
        """Number of each item's group, `(items,)`."""
        return self.source.group_of_item[self.places]


def choose_ranked(
    config: TrainConfig, model: keras.Model, validation: CodedSource | None
) -> RankedItems | None:
    """Reads the distinct items of the validation pairs, and chooses those that are ranked.

    Args:
        config: The run's options; None is returned where they rank none.
        model: The pair model.
        validation: The validation pairs.

    Raises:
        UserError: without validation pairs that say whose items they are, without a model that
            encodes both sides alike, or where too few items are left to rank.
    """
    if not config.retrieval_items:
        return None
    received = f"retrieval_items={config.retrieval_items}"
    if validation is None:
        raise UserError(
            "Retrieval is measured on the items of the validation pairs. Received: "
            f"{received}, validation=''. Set validation, or leave retrieval_items out."
        )
    found = models.find_encoder(model)
    if found is None or len(found.encoded[0].shape) != 2:
        raise UserError(
            "Retrieval is measured of one encoder, used on both sides, that gives a vector for "
            f"each item. Received: {received}, and the model {model.name!r}. Leave "
            "retrieval_items out, or make the model with `pair_classifier(encoder)`."
        )
    codec = validation.codecs.a
    source = read_items(
        config.validation,
        item="",  # No column but those of the pairs.
        group="",
        on_bad_row=config.on_bad_row,
        codec=codec,
    )
    places = choose_items(source.group_of_item, config.retrieval_items, seed=config.seed)
    group = source.group_of_item[places]
    num_groups = np.unique(group).size
    if num_groups < 2 or not find_queries(group).size:
        raise UserError(
            "Retrieval takes items of two groups, one of which has two items. Received: "
            f"{received}, for which {num_groups} whole groups with {group.size} of the "
            f"{source.group_of_item.size} items of {hide_secrets(config.validation)} were chosen. "
            "Set retrieval_items to more, or give more validation pairs."
        )
    at_once = config.mini_batch_size or config.batch_size
    return RankedItems(source=source, codec=codec, places=places, at_once=at_once, seed=config.seed)


class ValidateRetrieval(keras.callbacks.Callback):
    """Ranks the validation items after each epoch, and adds the figures to the logs of all ranks.

    Each rank encodes its share of the items and ranks all of them for its share of the queries, so
    that the figures are those of one process. What is equal to the model is encoded once: on any
    number of ranks it ties.

    Args:
        view: Encodes items.
        items: Those that are ranked.
        world: Which rank this is.
    """

    def __init__(self, view: models.EncodingView, items: RankedItems, world: World) -> None:
        super().__init__()
        self._items = items
        self._group = items.group
        self._queries = find_queries(self._group)
        self._distinct = DistinctItems(
            view, items.read, items.codec, len(self._group), at_once=items.at_once, world=world
        )
        self._own_queries = np.array_split(self._queries, world.size)[world.rank]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Encodes, ranks and measures, with all ranks."""
        found = self._measure()
        if logs is None:
            return
        for name, (mean, low, high) in found.items():
            logs[f"val_{name}"] = mean
            if name in _WITH_INTERVAL:
                logs |= {f"val_{name}_low": low, f"val_{name}_high": high}

    def _measure(self) -> dict[str, Estimate]:
        encodings = self._distinct.encode()[self._distinct.of_item]
        if not np.isfinite(encodings).all():  # The run's loss will end it.
            return dict.fromkeys(FIGURES, _UNKNOWN)
        values = join_ranks([measure_queries(encodings, self._group, self._own_queries)])
        # Hosts may round sums in other ways, and an end of training is decided by them.
        return dist.broadcast_object(
            estimate(values, self._group[self._queries], seed=self._items.seed)
        )
