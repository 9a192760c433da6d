"""The notebook's five models, with its shapes and defaults.

Under a policy of mixed precision their last layers stay in 32 bits.
"""

from __future__ import annotations

import keras
from keras import layers

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.heads import full_precision
from sharedlayers_dist.models.pair import pair_classifier


def tweet_pair(*, head: str | keras.Layer = "concatenation") -> keras.Model:
    """Whether two tweets have the same author: `(B, 280, 256) x 2 -> (B, 1)`.

    One LSTM(64) reads both tweets. A tweet is a binary matrix, a row for each character and a
    column for each of the 256 characters of the alphabet. Compiled as in the notebook.

    Args:
        head: How the encodings are compared, see `pair_classifier`.

    Returns:
        A compiled model with the inputs `a` and `b`, floats of shape (B, 280, 256).

    Raises:
        UserError: for an unknown head.

    Example:
        >>> tweet_pair(head="cosine").output_shape
        (None, 1)
    """
    shared_lstm = layers.LSTM(64, name="shared_lstm")
    shared_lstm.build((None, 280, 256))
    return _compile_pair(pair_classifier(shared_lstm, head, name="tweet_pair"))


def digit_pair(*, head: str | keras.Layer = "concatenation") -> keras.Model:
    """Whether two images show the same digit: `(B, 27, 27, 1) x 2 -> (B, 1)`.

    A whole vision model is what is shared: it is called on both images. Its convolutions have no
    activation, as in the notebook. Pixels lie in [0, 1]. Compiled as `tweet_pair` is.

    Args:
        head: How the encodings are compared, see `pair_classifier`.

    Returns:
        A compiled model with the inputs `a` and `b`, floats of shape (B, 27, 27, 1).

    Raises:
        UserError: for an unknown head.

    Example:
        >>> digit_pair(head="cosine").output_shape
        (None, 1)
    """
    digit = keras.Input((27, 27, 1), name="digit")
    x = layers.Conv2D(64, (3, 3))(digit)
    x = layers.Conv2D(64, (3, 3))(x)
    x = layers.MaxPooling2D((2, 2))(x)
    vision_model = keras.Model(digit, layers.Flatten()(x), name="vision_model")
    return _compile_pair(pair_classifier(vision_model, head, name="digit_pair"))


def shared_conv() -> keras.Model:
    """One convolution on images of two sizes: (32, 32, 3) and (64, 64, 3), 16 channels out.

    Its inputs are `c` and `d`; it is not compiled.

    Example:
        >>> shared_conv().output_shape
        [(None, 32, 32, 16), (None, 64, 64, 16)]
    """
    c = keras.Input((32, 32, 3), name="c")
    d = keras.Input((64, 64, 3), name="d")
    conv = layers.Conv2D(16, (3, 3), padding="same", dtype=full_precision())
    return keras.Model([c, d], [conv(c), conv(d)], name="shared_conv")


def inception(*, axis: int = 1) -> keras.Model:
    """Three convolution towers on one (256, 256, 3) image, concatenated; not compiled.

    Args:
        axis: 1, the notebook's, puts the towers' images one below the other: (768, 256, 64). On
            images with the channels last, as here, -1 is how the module is usually used: it puts
            the towers' channels side by side, (256, 256, 192).

    Raises:
        UserError: for any other axis.

    Source: Szegedy et al., Going Deeper with Convolutions (2014), figure 2b.

    Example:
        >>> inception(axis=-1).output_shape
        (None, 256, 256, 192)
    """
    if axis not in (1, -1):
        raise UserError(
            "`axis` must be 1 (the notebook's: images one below the other) or -1 (channels side "
            f"by side). Received: axis={axis!r}."
        )
    image = keras.Input((256, 256, 3), name="image")
    tower_1 = layers.Conv2D(64, (1, 1), padding="same", activation="relu")(image)
    tower_1 = layers.Conv2D(64, (3, 3), padding="same", activation="relu")(tower_1)
    tower_2 = layers.Conv2D(64, (1, 1), padding="same", activation="relu")(image)
    tower_2 = layers.Conv2D(64, (5, 5), padding="same", activation="relu")(tower_2)
    tower_3 = layers.MaxPooling2D((3, 3), strides=(1, 1), padding="same")(image)
    tower_3 = layers.Conv2D(64, (1, 1), padding="same", activation="relu")(tower_3)
    towers = layers.Concatenate(axis=axis, dtype=full_precision())([tower_1, tower_2, tower_3])
    return keras.Model(image, towers, name="inception")


def residual() -> keras.Model:
    """A convolution with a residual connection: `x + Conv2D(x)` on (256, 256, 3); not compiled.

    Source: He et al., Deep Residual Learning for Image Recognition (2015), equation 1.

    Example:
        >>> residual().output_shape
        (None, 256, 256, 3)
    """
    x = keras.Input((256, 256, 3), name="x")
    y = layers.Conv2D(3, (3, 3), padding="same")(x)
    return keras.Model(x, layers.Add(dtype=full_precision())([x, y]), name="residual")


def _compile_pair(model: keras.Model) -> keras.Model:
    model.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    return model
