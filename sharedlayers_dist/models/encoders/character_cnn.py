"""A convolutional network over characters: which short strings a text has, and how often."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.encoders.characters import (
    NUM_IDS,
    embed_characters,
    mean_and_maximum,
)
from sharedlayers_dist.models.encoders.sizes import require_sizes


def character_cnn(
    *,
    length: int = 280,
    num_ids: int = NUM_IDS,
    embedding_size: int = 32,
    widths: Sequence[int] = (3, 5, 7),
    filters: int = 128,
    size: int = 128,
    dropout: float = 0.2,
) -> keras.Model:
    """Encodes a text by convolutions of several widths: `(B, T) -> (B, size)`.

    Each width is a layer of its own on the embedded characters; the maximum over the text says
    whether a string is there, the mean how often. Padding, on either side, changes nothing.

    Args:
        length: T, ids of a text.
        num_ids: Ids that there are: padding, and the alphabet's characters.
        embedding_size: Features of a character.
        widths: Characters that each layer of convolutions looks at.
        filters: Convolutions of each width.
        size: Features of the encoding.
        dropout: Share of the pooled features that are left out in training; of the embedding's,
            half of that share is.

    Returns:
        A functional model with the input `ids`, integers of shape (B, T).

    Raises:
        UserError: for a size below 1, or no widths.

    Source: Kim, Convolutional Neural Networks for Sentence Classification (2014), on characters as
    in Shrestha et al., Convolutional Neural Networks for Authorship Attribution of Short Texts
    (2017); the mean beside the maximum is added here.

    Example:
        >>> character_cnn(widths=(3, 5)).output_shape
        (None, 128)
    """
    require_sizes(filters=filters, size=size)
    if not widths or min(widths) < 1:
        raise UserError(
            f"`widths` must be widths of 1 character and more. Received: widths={tuple(widths)}."
        )
    text = embed_characters(
        length=length, num_ids=num_ids, size=embedding_size, dropout=dropout / 2
    )
    pooled = []
    for width in widths:
        convolve = layers.Conv1D(filters, width, padding="same", activation="relu")
        found = layers.Multiply()([convolve(text.vectors), text.mask])
        pooled += mean_and_maximum(found, text.mask)
    # Of a mean over a long text the numbers are far smaller than of a maximum.
    features = layers.LayerNormalization()(layers.Concatenate()(pooled))
    features = layers.Dropout(dropout)(features)
    return keras.Model(text.ids, layers.Dense(size)(features), name="character_cnn")
