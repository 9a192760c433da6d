"""This rank's readers of what a run trains on and is validated on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.data import (
    DatasetIndex,
    DatasetMixture,
    GroupedItems,
    ItemCodec,
    ItemReader,
    OrderOptions,
    PairCodecs,
    PairReading,
    PKReader,
    Reader,
)
from sharedlayers_dist.data.reading.item_loader import LocalItemLoader, OpenItems
from sharedlayers_dist.training.data_sources import CodedSource
from sharedlayers_dist.training.row_group_copies import plan_cache
from sharedlayers_dist.world import World

if TYPE_CHECKING:
    from sharedlayers_dist.training.objective import Objective


class DataAccess(NamedTuple):
    """Where data is read: on this rank, unless other functions say where."""

    open_pairs: Callable[[PairReading, World], Reader] = PairReading.open
    """Opens this rank's reader of pairs."""
    open_items: OpenItems = LocalItemLoader
    """Opens the items that batches of groups are made of."""


class Readers(NamedTuple):
    """What this rank reads."""

    training: Reader
    validation: Reader | None


def open_readers(
    training: CodedSource,
    validation: CodedSource | None,
    config: TrainConfig,
    *,
    objective: Objective,
    world: World,
    access: DataAccess,
) -> Readers:
    """This rank's readers; Arrow's threads are this rank's share of its host's cores.

    Raises:
        UserError: for more ranks than streams, or items that make no pairs.
    """
    if world.local_size > 1:
        pa.set_cpu_count(world.cores)

    def open_one(pairs: CodedSource, *, shuffle: bool) -> Reader:
        if isinstance(pairs.source, GroupedItems):
            return _open_groups(
                pairs.source, pairs.codecs.a, config, objective, world, access.open_items
            )
        reading = pair_reading(pairs.source, config, codecs=pairs.codecs, shuffle=shuffle)
        return access.open_pairs(reading, world)

    return Readers(
        open_one(training, shuffle=True),
        None if validation is None else open_one(validation, shuffle=False),
    )


def _open_groups(
    source: GroupedItems,
    codec: ItemCodec,
    config: TrainConfig,
    objective: Objective,
    world: World,
    open_items: OpenItems,
) -> Reader:
    """The reader of items, or of all their pairs for a model that has no encoder for both sides."""
    options: dict[str, Any] = {
        "codec": codec,
        "groups_per_batch": config.groups_per_batch,
        "items_per_group": config.items_per_group,
        "seed": config.seed,
        "world": world,
        "open_items": open_items,
    }
    view = objective.view
    if not isinstance(view, models.EncodingView):
        return PKReader(source, **options)
    return ItemReader(source, as_pairs=view.gives == "pairs of encodings", **options)


def describe_left_out(reader: Reader) -> list[str]:
    """What all ranks have left out of their pairs, a line a kind; every rank must call it."""
    stats = reader.stats
    counts = np.array([stats.num_bad_rows, stats.num_truncated])
    num_bad_rows, num_truncated = dist.allreduce_sum([counts])[0]
    lines = []
    if num_bad_rows:
        found = dist.allgather_object(stats.problems)
        problems = dict.fromkeys(problem for of_rank in found for problem in of_rank)
        lines.append(
            f"{num_bad_rows} bad rows were left out, counted in each epoch: {'; '.join(problems)}"
        )
    if num_truncated:
        kept = " and ".join(dict.fromkeys(codec.kept for codec in reader.codecs if codec.kept))
        lines.append(f"{num_truncated} items were truncated: their {kept} are read.")
    return lines


def pair_reading(
    index: DatasetIndex | DatasetMixture,
    config: TrainConfig,
    *,
    codecs: PairCodecs,
    shuffle: bool,
) -> PairReading:
    """How the pairs of `index` are read; `shuffle` is for training pairs alone."""
    return PairReading(
        index=index,
        codecs=codecs,
        options=OrderOptions(
            seed=config.seed,
            batch_size=config.batch_size,
            num_streams=config.num_streams,
            window=config.window or None,
            shuffle=shuffle,
        ),
        on_bad_row=config.on_bad_row,
        cache=plan_cache(index, config),
    )
