"""A residual convolutional network for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.encoders.sizes import require_sizes

_CHANNELS_PER_GROUP = 8


def residual_cnn(
    *,
    shape: tuple[int | None, int | None, int] = (None, None, 1),
    channels: Sequence[int] = (32, 64, 128),
    size: int = 128,
    dropout: float = 0.1,
) -> keras.Model:
    """Encodes an image by residual convolutions: `(B, H, W, C) -> (B, size)`.

    Each stage has one residual block of two 3x3 convolutions; all stages but the first halve
    height and width. Images of 8x8 to 64x64 suit it; the same weights serve any size.

    Normalization is over groups of channels of each image alone, and not over the batch: so the
    result does not depend on how a batch is divided over ranks.

    Args:
        shape: Height, width and channels of an image; None for any height or width.
        channels: Channels of each stage, multiples of 8.
        size: Features of the encoding.
        dropout: Share of the pooled features that are left out in training.

    Returns:
        A functional model with the input `image`, floats in [0, 1] of shape (B, H, W, C).

    Raises:
        UserError: for channels that are not multiples of 8, or a size below 1.

    Source: He et al., Identity Mappings in Deep Residual Networks (2016), figure 4e; Wu and He,
    Group Normalization (2018).

    Example:
        >>> residual_cnn(shape=(28, 28, 1)).output_shape
        (None, 128)
    """
    require_sizes(size=size)
    if not channels or min(channels) < 1 or any(n % _CHANNELS_PER_GROUP for n in channels):
        raise UserError(
            f"`channels` must be multiples of {_CHANNELS_PER_GROUP}, one for each stage. "
            f"Received: channels={tuple(channels)}."
        )
    image = keras.Input(shape, name="image")
    x = layers.Conv2D(channels[0], 3, padding="same")(image)
    for stage, width in enumerate(channels):
        x = _block(x, width, strides=1 if stage == 0 else 2)
    x = _normalize(x)
    pooled = [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    features = layers.Dropout(dropout)(layers.Concatenate()(pooled))
    return keras.Model(image, layers.Dense(size)(features), name="residual_cnn")


def _block(x: Any, channels: int, *, strides: int) -> Any:
    """Two convolutions beside a shortcut: `(B, H, W, C) -> (B, H / strides, ..., channels)`."""
    y = _normalize(x)
    if strides > 1 or x.shape[-1] != channels:
        x = layers.Conv2D(channels, 1, strides=strides, use_bias=False)(y)
    y = layers.Conv2D(channels, 3, strides=strides, padding="same", use_bias=False)(y)
    y = layers.Conv2D(channels, 3, padding="same", use_bias=False)(_normalize(y))
    return layers.Add()([x, y])


def _normalize(x: Any) -> Any:
    return layers.ReLU()(layers.GroupNormalization(x.shape[-1] // _CHANNELS_PER_GROUP)(x))
