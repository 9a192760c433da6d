"""The numbers that losses are computed in, and what stands for infinity among them."""

from __future__ import annotations

import keras

HUGE = 1e30
"""Stands for infinity where a row has nothing to choose from: finite, so that gradients are too."""


def loss_dtype() -> str:
    """The dtype that losses are computed in: Keras's `floatx`, but 32 bits where that has 16.

    Example:
        >>> loss_dtype()
        'float32'
    """
    return keras.backend.result_type(keras.config.floatx(), "float32")
