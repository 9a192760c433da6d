"""What a run trains on: a pair dataset, a mixture of several, or groups of items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa

from sharedlayers_dist import models
from sharedlayers_dist.config import DataConfig, TrainConfig
from sharedlayers_dist.data import (
    DatasetIndex,
    DatasetMixture,
    GroupedItems,
    ModelInput,
    PairCodecs,
    SequenceOptions,
    choose_codec,
    choose_codecs,
    index_dataset,
    index_mixture,
    make_alphabet,
    read_items,
    resolve_alphabet,
)
from sharedlayers_dist.data.items.choosing import alphabet_size_of
from sharedlayers_dist.data.reading.item_files import describe_items
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets

if TYPE_CHECKING:
    import keras

Source: TypeAlias = DatasetIndex | DatasetMixture | GroupedItems


class CodedSource(NamedTuple):
    """Pairs, and how their items become what the model takes."""

    source: Source
    codecs: PairCodecs

    def describe_items(self) -> dict[str, dict[str, Any]]:
        """What the items of both sides are in a batch, as values that JSON has."""
        return {
            side: {
                "kind": getattr(self.source, side).kind,
                "shape": list(codec.shape),
                "dtype": codec.dtype,
            }
            for side, codec in self.codecs._asdict().items()
        }


def inputs_of(model: keras.Model) -> dict[str, ModelInput]:
    """What a pair model takes as the items `a` and `b`."""
    return {
        side: ModelInput(
            tensor.name,
            tuple(tensor.shape)[1:],
            tensor.dtype,
            f"the model {model.name}",
            models.find_table_size(model, tensor),
        )
        for side, tensor in models.inputs_by_side(model).items()
    }


def sequence_options(config: DataConfig) -> SequenceOptions:
    """How a run's texts and lists of tokens become rows of one length."""
    return SequenceOptions(
        truncate=config.truncate, pad=config.pad, alphabet_size=config.alphabet_size
    )


def open_data(
    config: TrainConfig, model: keras.Model
) -> tuple[CodedSource, CodedSource | None, str]:
    """Looks at the pairs that `config` names, for a model.

    Returns:
        The training pairs, the validation pairs if there are any, and the alphabet of their texts.

    Raises:
        UserError: for data that cannot be used, or not by this model.
    """
    taken, options = inputs_of(model), sequence_options(config)

    def code(source: Source, alphabet: str = "") -> CodedSource:
        uri = hide_secrets(source.uri)
        codecs = choose_codecs(source, taken, options, alphabet=alphabet, where=uri)
        return CodedSource(source, codecs)

    training = code(open_source(config, taken))
    validation = code(index_dataset(config.validation)) if config.validation else None
    _require_both_labels("Training", training.source)
    if validation is not None:
        _require_both_labels("Validation", validation.source)
    alphabet = alphabet_of(training, config)  # It may take reading all of them, and so comes last.
    return (
        code(training.source, alphabet),
        code(validation.source, alphabet) if validation else None,
        alphabet,
    )


def _require_both_labels(which: str, source: Source) -> None:
    """Raises UserError for listed pairs of one label, as far as footers tell: nothing is read."""
    if isinstance(source, GroupedItems):
        return
    labels = {part.only_label for part in source.parts}
    if len(labels) == 1 and None not in labels:
        raise UserError(
            f"{which} pairs must have both labels, 0 and 1. Received: {hide_secrets(source.uri)}, "
            f"with {source.num_rows} pairs of the label {labels.pop()}. `sharedlayers pairs` makes "
            "as many of each; positive pairs alone are trained on as groups of items "
            "(groups_per_batch)."
        )


def open_source(config: DataConfig, taken: Mapping[str, ModelInput]) -> Source:
    """Looks at the training data that `config` names.

    Args:
        config: The run's options.
        taken: What the model takes; items that pairs are made of on the fly are read for it.

    Raises:
        UserError: for data that cannot be used.
    """
    if config.groups_per_batch:
        return _read_items(config, taken)
    if config.mix:
        return index_mixture([(config.pairs, 1.0), *map(_parse_part, config.mix)])
    return index_dataset(config.pairs)


def _read_items(config: DataConfig, taken: Mapping[str, ModelInput]) -> GroupedItems:
    """The items that pairs are made of on the fly; both sides of a pair are alike."""
    column = describe_items(config.pairs, config.item_column)
    where = f"column {config.item_column!r} of {hide_secrets(config.pairs)}"
    codec, codec_of_b = (
        choose_codec(column, taken[side], sequence_options(config), where=where) for side in "ab"
    )
    if codec != codec_of_b:
        raise UserError(
            "A model must take both items of a pair alike where pairs are made on the fly. "
            f"Received: {taken['a']}, and {taken['b']}."
        )
    return read_items(
        config.pairs,
        item=config.item_column,
        group=config.group_column,
        on_bad_row=config.on_bad_row,
        codec=codec,
    )


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


def alphabet_of(pairs: CodedSource, config: DataConfig) -> str:
    """The characters of the texts, the most frequent first; empty where no side is text."""
    source, size = pairs.source, alphabet_size_of(pairs.codecs)
    if not size:
        return ""
    if isinstance(source, GroupedItems):
        return make_alphabet([pa.chunked_array([source.items])], size)
    return resolve_alphabet(source, size, on_bad_row=config.on_bad_row)


def describe_source(source: Source, config: TrainConfig) -> str:
    """What is trained on, in a few words."""
    if isinstance(source, GroupedItems):
        return (
            f"{len(source.group_of_item)} items, up to {config.items_per_group} of each of "
            f"{config.groups_per_batch} groups a step"
        )
    return f"{source.num_rows} pairs, {config.batch_size} a step"
