"""Whether what an encoder makes of a row depends on that row alone."""

from __future__ import annotations

import keras

from sharedlayers_dist.models.graph import calls_in_model, has_graph, layers_within


def keeps_rows_apart(encoder: keras.Layer) -> bool:
    """Whether encoding two batches in one call is sure to give what two calls give.

    It is not where rows of a batch look at each other (batch statistics), where a call changes
    the layer's state, or where the layer's code is not Keras's own and may do anything.

    Example:
        >>> keeps_rows_apart(keras.layers.LSTM(3))
        True
        >>> keeps_rows_apart(keras.layers.BatchNormalization())
        False
    """
    for layer in layers_within(encoder):
        if not type(layer).__module__.startswith("keras."):
            return False
        if isinstance(layer, _MIXING_LAYERS) or getattr(layer, "stateful", False):
            return False
        if layer.activity_regularizer is not None:
            return False
        # A bare operation, say a mean over axis 0, may mix rows as well.
        calls = calls_in_model(layer) if has_graph(layer) else []
        if not all(isinstance(call.layer, keras.Layer) for call in calls):
            return False
    return True


def draws_random_numbers(encoder: keras.Layer) -> bool:
    """Whether an encoder gives a row another encoding each time it is trained on, as dropout does.

    Example:
        >>> draws_random_numbers(keras.layers.Dropout(0.1))
        True
        >>> draws_random_numbers(keras.layers.LSTM(3))
        False
    """
    return any(map(_is_random, layers_within(encoder)))


def _is_random(layer: keras.Layer) -> bool:
    if hasattr(layer, "recurrent_dropout"):  # Such have a generator, whether they use it or not.
        return bool(layer.dropout or layer.recurrent_dropout)
    return getattr(layer, "seed_generator", None) is not None


_MIXING_LAYERS = (
    keras.layers.BatchNormalization,
    keras.layers.SpectralNormalization,
    keras.layers.Lambda,
)
