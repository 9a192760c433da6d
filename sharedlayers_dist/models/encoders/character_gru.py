"""A recurrent network over characters, read in both directions."""

from __future__ import annotations

import keras
from keras import layers

from sharedlayers_dist.models.encoders.characters import (
    NUM_IDS,
    attention_pooling,
    embed_characters,
)
from sharedlayers_dist.models.encoders.sizes import require_sizes


def character_gru(
    *,
    length: int = 280,
    num_ids: int = NUM_IDS,
    embedding_size: int = 32,
    units: int = 64,
    size: int = 128,
    dropout: float = 0.2,
) -> keras.Model:
    """Encodes a text by a GRU in both directions: `(B, T) -> (B, size)`.

    Its states, `(B, T, 2 units)`, are pooled by attention. At padding the states stand still, so
    that padding, on either side, changes nothing.

    Args:
        length: T, ids of a text.
        num_ids: Ids that there are: padding, and the alphabet's characters.
        embedding_size: Features of a character.
        units: Features of the GRU's state, in each direction.
        size: Features of the encoding.
        dropout: Share of the pooled features that are left out in training; of the embedding's,
            half of that share is.

    Returns:
        A functional model with the input `ids`, integers of shape (B, T).

    Raises:
        UserError: for a size below 1.

    Source: Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (2014), for the
    GRU; Yang et al., Hierarchical Attention Networks for Document Classification (2016), for one in
    both directions under attention.

    Example:
        >>> character_gru(units=32).output_shape
        (None, 128)
    """
    require_sizes(units=units, size=size)
    text = embed_characters(
        length=length, num_ids=num_ids, size=embedding_size, dropout=dropout / 2
    )
    # Not layers.GRU: on a GPU it goes to cuDNN, which refuses masks of padding in front and of
    # texts without characters, and a saved model forgets `use_cudnn=False`.
    cell = layers.GRUCell(units, name="gru_cell")
    read = layers.Bidirectional(layers.RNN(cell, return_sequences=True, name="gru"))
    states = read(text.vectors, mask=layers.Reshape((-1,))(text.mask))
    features = layers.LayerNormalization()(attention_pooling(states, text.mask))
    features = layers.Dropout(dropout)(features)
    return keras.Model(text.ids, layers.Dense(size)(features), name="character_gru")
