"""Making what a model's input takes from the compact items that batches carry."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.errors import UserError


def expand(items: Any, tensor: keras.KerasTensor) -> Any:
    """Makes what a model's input takes from compact items.

    Args:
        items: The items of one side, the batch first; `compact_view` says of which shape.
        tensor: The symbolic input of the model.

    Returns:
        A tensor of the shape and dtype of `tensor`.

    Raises:
        UserError: for items of another shape or dtype than the input's compact form.

    Example:
        >>> expand(ops.array([[0, 2]]), keras.Input((2, 3))).numpy().tolist()
        [[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    require_compact(items, tensor)
    if "int" in tensor.dtype:
        return ops.cast(items, tensor.dtype)
    dtype = keras.backend.standardize_dtype(items.dtype)
    if len(items.shape) < len(tensor.shape):
        # Ids may be unsigned, where 0 - 1 is not negative.
        columns = ops.cast(items, "int32") - 1
        return ops.one_hot(columns, tensor.shape[-1], dtype=tensor.dtype)
    values = ops.cast(items, tensor.dtype)
    return values / 255 if dtype == "uint8" else values


def require_compact(items: Any, tensor: keras.KerasTensor) -> None:
    """Refuses items that are not of a compact form of a model's input.

    Args:
        items: The items of one side, the batch first.
        tensor: The symbolic input of the model.

    Raises:
        UserError: with the shape and dtype of the items.

    Example:
        >>> require_compact(ops.array([[0, 2]]), keras.Input((2, 3)))
    """
    dtype = keras.backend.standardize_dtype(items.dtype)
    dimensions, is_float = len(tensor.shape), "float" in dtype
    has_its_shape = len(items.shape) == dimensions
    if "int" in tensor.dtype:
        wanted = "integers of that shape"
        fits = has_its_shape and not is_float
    elif dimensions == 3:
        wanted = "integers (batch, length), or floats of that shape"
        fits = ("int" in dtype and len(items.shape) == 2) or (has_its_shape and is_float)
    else:
        wanted = "images of that shape" if dimensions == 4 else "floats of that shape"
        fits = has_its_shape and (dimensions == 4 or is_float)
    if not fits:
        raise UserError(
            f"Compact items for the input {tensor.name} of shape {tuple(tensor.shape)} must be "
            f"{wanted}. Received: shape={tuple(items.shape)}, dtype={dtype}."
        )
