"""What the encoders of text have in common: embedded characters, and pooling without the padding.

A text is a row of character ids, 0 for padding. That padding must not change an encoding holds
for all of them: positions of padding are zero wherever a layer looks at its neighbours, and have
no part in what is pooled. A text of padding alone gives a finite encoding like any other.

The mask is computed by layers, and handed on by hand: Keras's own (`mask_zero`) ends at the first
convolution, and its mean of no positions at all is not a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import layers

from sharedlayers_dist.models.encoders.sizes import require_sizes

NUM_IDS = 257
"""Padding, and the 256 characters of an alphabet."""


class Characters(NamedTuple):
    """Embedded characters, and where there are any."""

    ids: keras.KerasTensor
    """The encoder's input, `(B, T)`, int32."""
    vectors: keras.KerasTensor
    """`(B, T, D)`, zero at padding."""
    mask: keras.KerasTensor
    """`(B, T, 1)`, floats: 1 at a character, 0 at padding."""


def embed_characters(*, length: int, num_ids: int, size: int, dropout: float) -> Characters:
    """The beginning of every encoder of text: ids `(B, T)` to vectors `(B, T, D)`.

    Args:
        length: T, ids of a text.
        num_ids: Ids that there are, that of padding included.
        size: D, features of a character.
        dropout: Share of the features that are left out in training, the same for a whole text.

    Raises:
        UserError: for a number that is out of its range.

    Example:
        >>> embed_characters(length=280, num_ids=257, size=32, dropout=0.1).vectors.shape
        (None, 280, 32)
    """
    require_sizes(length=length, num_ids=num_ids, embedding_size=size)
    ids = keras.Input((length,), dtype="int32", name="ids")
    mask = layers.ReLU(max_value=1.0)(layers.Rescaling(1.0)(ids))
    mask = layers.Reshape((-1, 1), name="mask")(mask)
    vectors = layers.Embedding(num_ids, size, name="embedding")(ids)
    vectors = layers.SpatialDropout1D(dropout, name="embedding_dropout")(vectors)
    return Characters(ids, layers.Multiply()([vectors, mask]), mask)


def mean_and_maximum(vectors: Any, mask: Any) -> list[Any]:
    """The mean and the maximum over the characters, two of `(B, D)`; zero where there is none.

    Args:
        vectors: `(B, T, D)`, not below zero, and zero at padding: so padding is never the maximum.
        mask: `(B, T, 1)`, 1 at a character, 0 at padding.

    Example:
        >>> [x.shape for x in mean_and_maximum(keras.Input((9, 4)), keras.Input((9, 1)))]
        [(None, 4), (None, 4)]
    """
    equal = layers.Rescaling(0.0)(mask)
    return [_weighted_mean(vectors, equal, mask), layers.GlobalMaxPooling1D()(vectors)]


def attention_pooling(vectors: Any, mask: Any) -> Any:
    """A mean over the characters whose weights are learned: `(B, T, D), (B, T, 1) -> (B, D)`.

    Padding has the weight 0; where there is nothing else, the mean is 0.

    Source: Yang et al., Hierarchical Attention Networks for Document Classification (2016),
    equations 5 to 7.

    Example:
        >>> attention_pooling(keras.Input((9, 4)), keras.Input((9, 1))).shape
        (None, 4)
    """
    hidden = layers.Dense(vectors.shape[-1], activation="tanh")(vectors)
    return _weighted_mean(vectors, layers.Dense(1, use_bias=False)(hidden), mask)


def _weighted_mean(vectors: Any, logits: Any, mask: Any) -> Any:
    weights = layers.Softmax(axis=1)(logits, mask=mask)
    return layers.Flatten()(layers.Dot(axes=1)([weights, vectors]))
