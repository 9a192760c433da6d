"""What a run trains on: a pair dataset, a mixture of several, or pairs made on the fly."""

from __future__ import annotations

from typing import TypeAlias

import pyarrow as pa

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.data import (
    DatasetIndex,
    DatasetMixture,
    GroupedItems,
    GroupedPairReader,
    PairReader,
    index_dataset,
    index_mixture,
    make_alphabet,
    read_items,
    resolve_alphabet,
)
from sharedlayers_dist.world import World

Source: TypeAlias = DatasetIndex | DatasetMixture | GroupedItems
Reader: TypeAlias = PairReader | GroupedPairReader


def open_source(config: TrainConfig) -> Source:
    """Looks at the training data that `config` names.

    Raises:
        ValueError: for data that cannot be used.
    """
    if config.groups_per_batch:
        return read_items(config.pairs, item=config.item_column, group=config.group_column)
    if config.mix:
        return index_mixture({config.pairs: 1.0} | dict(map(_parse_part, config.mix)))
    return index_dataset(config.pairs)


def _parse_part(part: str) -> tuple[str, float]:
    """`0.5*extra/train` as the URI and its weight."""
    weight, star, uri = part.partition("*")
    try:
        if not star or not uri:
            raise ValueError
        return uri, float(weight)
    except ValueError:
        raise ValueError(
            f"A dataset is mixed in as WEIGHT*URI. Received: mix={part!r}. "
            "Write for example --mix '0.5*extra/train'."
        ) from None


def alphabet_of(source: Source) -> str:
    """The characters of a text source, the most frequent first; empty for images."""
    if source.kind != "text":
        return ""
    if isinstance(source, GroupedItems):
        return make_alphabet([pa.chunked_array([source.items])])
    return resolve_alphabet(source)


def describe_source(source: Source, config: TrainConfig) -> str:
    """What is trained on, in a few words."""
    if isinstance(source, GroupedItems):
        return (
            f"all pairs within {config.groups_per_batch} groups of up to {config.items_per_group} "
            f"of {len(source.group_of_item)} items a step"
        )
    return f"{source.num_rows} pairs, {config.batch_size} a step"


def read_training(source: Source, config: TrainConfig, *, alphabet: str, world: World) -> Reader:
    """This rank's reader of the training data.

    Raises:
        ValueError: for more ranks than streams, or items that make no pairs.
    """
    if isinstance(source, GroupedItems):
        return GroupedPairReader(
            source,
            alphabet=alphabet,
            groups_per_batch=config.groups_per_batch,
            items_per_group=config.items_per_group,
            seed=config.seed,
            world=world,
        )
    return read_pairs(source, config, alphabet=alphabet, world=world, shuffle=True)


def read_pairs(
    source: DatasetIndex | DatasetMixture,
    config: TrainConfig,
    *,
    alphabet: str,
    world: World,
    shuffle: bool,
) -> PairReader:
    """This rank's reader of pairs; `shuffle` is for training pairs alone.

    Raises:
        ValueError: for more ranks than streams.
    """
    return PairReader(
        source,
        alphabet=alphabet,
        batch_size=config.batch_size,
        seed=config.seed,
        num_streams=config.num_streams,
        world=world,
        shuffle=shuffle,
        window=config.window or None,
        on_bad_row=config.on_bad_row,
    )
