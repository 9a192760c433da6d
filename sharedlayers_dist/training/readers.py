"""What a run trains on: a pair dataset, a mixture of several, or pairs made on the fly."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from sharedlayers_dist import dist
from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.data import (
    DatasetIndex,
    DatasetMixture,
    GroupedItems,
    OrderOptions,
    PairReading,
    PKReader,
    Reader,
    index_dataset,
    index_mixture,
    make_alphabet,
    read_items,
    resolve_alphabet,
)
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World

Source: TypeAlias = DatasetIndex | DatasetMixture | GroupedItems
OpenReader: TypeAlias = Callable[[PairReading, World], Reader]
"""Opens this rank's reader of pairs: `PairReading.open` reads here, others may read elsewhere."""


class Readers(NamedTuple):
    """What this rank reads."""

    training: Reader
    validation: Reader | None


def open_source(config: TrainConfig) -> Source:
    """Looks at the training data that `config` names.

    Raises:
        UserError: for data that cannot be used.
    """
    if config.groups_per_batch:
        return read_items(
            config.pairs,
            item=config.item_column,
            group=config.group_column,
            on_bad_row=config.on_bad_row,
        )
    if config.mix:
        return index_mixture([(config.pairs, 1.0), *map(_parse_part, config.mix)])
    return index_dataset(config.pairs)


def _parse_part(part: str) -> tuple[str, float]:
    """`0.5*extra/train` as the URI and its weight."""
    weight, star, uri = part.partition("*")
    try:
        if not star or not uri:
            raise ValueError
        return uri, float(weight)
    except ValueError:
        raise UserError(
            f"A dataset is mixed in as WEIGHT*URI. Received: mix={part!r}. "
            "Write for example --mix '0.5*extra/train'."
        ) from None


def alphabet_of(source: Source, config: TrainConfig) -> str:
    """The characters of a text source, the most frequent first; empty for images."""
    if source.kind != "text":
        return ""
    if isinstance(source, GroupedItems):
        return make_alphabet([pa.chunked_array([source.items])])
    return resolve_alphabet(source, on_bad_row=config.on_bad_row)


def describe_source(source: Source, config: TrainConfig) -> str:
    """What is trained on, in a few words."""
    if isinstance(source, GroupedItems):
        return (
            f"all pairs within {config.groups_per_batch} groups of up to {config.items_per_group} "
            f"of {len(source.group_of_item)} items a step"
        )
    return f"{source.num_rows} pairs, {config.batch_size} a step"


def open_readers(
    training: Source,
    validation: DatasetIndex | None,
    config: TrainConfig,
    *,
    alphabet: str,
    world: World,
    open_reader: OpenReader = PairReading.open,
) -> Readers:
    """This rank's readers; pairs made on the fly are always read here.

    Raises:
        UserError: for more ranks than streams, or items that make no pairs.
    """

    def open_pairs(index: DatasetIndex | DatasetMixture, *, shuffle: bool) -> Reader:
        reading = pair_reading(index, config, alphabet=alphabet, shuffle=shuffle)
        return open_reader(reading, world)

    if isinstance(training, GroupedItems):
        reader: Reader = PKReader(
            training,
            alphabet=alphabet,
            groups_per_batch=config.groups_per_batch,
            items_per_group=config.items_per_group,
            seed=config.seed,
            world=world,
        )
    else:
        reader = open_pairs(training, shuffle=True)
    return Readers(reader, None if validation is None else open_pairs(validation, shuffle=False))


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
        lines.append(f"{num_truncated} texts were truncated: their last 280 characters are read.")
    return lines


def pair_reading(
    index: DatasetIndex | DatasetMixture, config: TrainConfig, *, alphabet: str, shuffle: bool
) -> PairReading:
    """How the pairs of `index` are read; `shuffle` is for training pairs alone."""
    return PairReading(
        index=index,
        alphabet=alphabet,
        options=OrderOptions(
            seed=config.seed,
            batch_size=config.batch_size,
            num_streams=config.num_streams,
            window=config.window or None,
            shuffle=shuffle,
        ),
        on_bad_row=config.on_bad_row,
    )
