"""A small transformer over patches of characters."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.encoders.characters import (
    NUM_IDS,
    attention_pooling,
    embed_characters,
)
from sharedlayers_dist.models.encoders.sizes import require_sizes


def character_transformer(
    *,
    length: int = 280,
    num_ids: int = NUM_IDS,
    embedding_size: int = 32,
    patch: int = 4,
    num_blocks: int = 2,
    num_heads: int = 4,
    size: int = 128,
    dropout: float = 0.1,
) -> keras.Model:
    """Encodes a text by self-attention over patches of characters: `(B, T) -> (B, size)`.

    A convolution makes `T / patch` tokens of the characters, each of twice a patch. Where a token
    stands it knows from a convolution over its neighbours, not from a table of places, and so the
    same weights serve texts of any length. Padding of whole patches changes nothing.

    Args:
        length: T, ids of a text; a multiple of `patch`.
        num_ids: Ids that there are: padding, and the alphabet's characters.
        embedding_size: Features of a character.
        patch: Characters from one token to the next.
        num_blocks: Blocks of attention and a network of two layers, normalised before each.
        num_heads: Heads of the attention; a divisor of `size`.
        size: Features of a token, and of the encoding.
        dropout: Share of what each part of a block adds that is left out in training.

    Returns:
        A functional model with the input `ids`, integers of shape (B, T).

    Raises:
        UserError: for a size below 1, or one that is not a multiple of what it must be one of.

    Source: Vaswani et al., Attention Is All You Need (2017), normalised before each part as in
    Xiong et al., On Layer Normalization in the Transformer Architecture (2020); patches of
    characters as in Clark et al., CANINE (2022); places by a convolution as in Chu et al.,
    Conditional Positional Encodings for Vision Transformers (2021).

    Example:
        >>> character_transformer(num_blocks=1).output_shape
        (None, 128)
    """
    require_sizes(patch=patch, num_blocks=num_blocks, num_heads=num_heads, size=size)
    _require_multiple("length", length, "patch", patch)
    _require_multiple("size", size, "num_heads", num_heads)
    text = embed_characters(length=length, num_ids=num_ids, size=embedding_size, dropout=dropout)
    mask = layers.MaxPooling1D(patch)(text.mask)  # (B, T / patch, 1)
    x = layers.Conv1D(size, 2 * patch, strides=patch, padding="same")(text.vectors)
    x = layers.Multiply()([layers.LayerNormalization()(x), mask])
    places = layers.DepthwiseConv1D(7, padding="same")(x)
    x = layers.Add()([x, places])
    for _ in range(num_blocks):
        x = _block(x, mask, num_heads=num_heads, dropout=dropout)
    encoded = attention_pooling(layers.LayerNormalization()(x), mask)
    return keras.Model(text.ids, layers.Dense(size)(encoded), name="character_transformer")


def _block(x: Any, mask: Any, *, num_heads: int, dropout: float) -> Any:
    """One block, `(B, S, D) -> (B, S, D)`; no token looks at padding."""
    size = x.shape[-1]
    attend = layers.MultiHeadAttention(num_heads, size // num_heads, use_bias=False)
    normal = layers.LayerNormalization()(x)
    attended = attend(normal, normal, key_mask=layers.Reshape((-1,))(mask))
    x = layers.Add()([x, layers.Dropout(dropout)(attended)])
    hidden = layers.Dense(4 * size, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dropout(dropout)(layers.Dense(size)(hidden))])


def _require_multiple(name: str, value: int, of: str, divisor: int) -> None:
    if value % divisor:
        raise UserError(
            f"`{name}` must be a multiple of `{of}`. Received: {name}={value}, {of}={divisor}."
        )
