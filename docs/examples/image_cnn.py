"""A residual CNN with batch normalization on images, from PNG or JPEG bytes or from arrays.

sharedlayers train --model docs/examples/image_cnn.py:build --pairs faces/train --output run \
  --model-options '{"shape": [64, 64, 3]}' --optimizer adamw --schedule cosine --warmup-steps 50
"""

import keras
from keras import layers

from sharedlayers_dist.dist import SyncBatchNormalization


def build(shape: list[int] | tuple[int, ...] = (16, 16, 1), channels: int = 16) -> keras.Model:
    """Encodes `(B, height, width, channels)` as vectors; statistics are the global batch's."""
    image = keras.Input(tuple(shape), name="image")
    x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(SyncBatchNormalization()(x))
    for width in (channels, 2 * channels):
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        y = SyncBatchNormalization()(y)
        x = layers.ReLU()(layers.Add()([y, layers.Conv2D(width, 1, use_bias=False)(x)]))
        x = layers.MaxPooling2D(2)(x)
    return keras.Model(image, layers.GlobalAveragePooling2D()(x), name="image_cnn")
