"""Tensors of one shape, as images are that are stored as their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sharedlayers_dist.data.items.codec import BadItems, Encoded, as_array


@dataclass(frozen=True, kw_only=True)
class TensorCodec:
    """Arrow's `fixed_shape_tensor` of any shape and numbers, as it is.

    They are held as a NumPy array.

    Example:
        >>> codec = TensorCodec(shape=(1, 2, 1), dtype="uint8")
        >>> column = pa.array([[7, 8], None], pa.fixed_shape_tensor(pa.uint8(), [1, 2, 1]))
        >>> codec.encode(codec.read(pa.chunked_array([column]))).values.tolist()
        [[[[7], [8]]], [[[0], [0]]]]
    """

    shape: tuple[int, ...]
    """Shape of one tensor."""
    dtype: str
    """NumPy's name of its numbers."""

    @property
    def kept(self) -> str:
        """Nothing is truncated."""
        return ""

    def read(self, column: pa.ChunkedArray) -> NDArray:
        """Holds tensors."""
        array = as_array(column)
        if array.null_count:
            width = array.type.storage_type.list_size
            zeros = pa.array([[0] * width], array.type.storage_type)
            storage = pc.if_else(array.is_null(), zeros[0], array.storage)
            array = pa.ExtensionArray.from_storage(array.type, storage)
        return to_numpy(array)

    def find_bad(self, items: NDArray, *, thoroughly: bool = False) -> BadItems:
        """No numbers are bad."""
        return {}

    def blanks(self, num_items: int) -> NDArray:
        """Zeros."""
        return np.zeros((num_items, *self.shape), self.dtype)

    def encode(self, items: NDArray) -> Encoded:
        """The tensors, as they are held."""
        return Encoded(items)


def to_numpy(tensors: pa.FixedShapeTensorArray) -> NDArray:
    """Tensors without nulls as an array, shape `(len(tensors), *shape_of(tensors.type))`.

    Arrow's own conversion (26.0) gives other values where the type has a permutation.
    """
    item = tensors.type
    stored = tensors.storage.flatten().to_numpy(zero_copy_only=False)
    stored = stored.reshape(len(tensors), *item.shape)
    axes = item.permutation or range(len(item.shape))
    return stored.transpose(0, *(1 + axis for axis in axes))
