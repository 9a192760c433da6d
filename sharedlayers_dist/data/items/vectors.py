"""Vectors of one size, as encodings are that another model has made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharedlayers_dist.data.items.codec import BadItems, Encoded, as_array, name_bad


@dataclass(frozen=True, kw_only=True)
class VectorCodec:
    """Lists of `size` floats each.

    They are held as a NumPy array.

    Example:
        >>> codec = VectorCodec(size=2, dtype="float32")
        >>> column = pa.array([[0.5, 1.0], [0.0, np.nan]], pa.list_(pa.float64(), 2))
        >>> codec.find_bad(codec.read(pa.chunked_array([column])))
        {1: 'has numbers that are not finite'}
    """

    size: int
    """Numbers of one vector."""
    dtype: str
    """NumPy's name of the floats in a batch."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(size,)`."""
        return (self.size,)

    @property
    def kept(self) -> str:
        """Nothing is truncated."""
        return ""

    def read(self, column: pa.ChunkedArray) -> NDArray:
        """Holds vectors of floats of any width."""
        array = as_array(column)
        numbers = array.values.slice(array.offset * self.size, len(array) * self.size)
        with np.errstate(over="ignore"):  # What is too large becomes infinite, and is found.
            vectors = numbers.to_numpy(zero_copy_only=False).astype(self.dtype, copy=False)
        vectors = vectors.reshape(len(array), self.size)
        if array.null_count:
            vectors = np.where(array.is_valid().to_numpy(zero_copy_only=False)[:, None], vectors, 0)
        return vectors.astype(self.dtype, copy=False)

    def find_bad(self, items: NDArray, *, thoroughly: bool = False) -> BadItems:
        """Finds the vectors with numbers that are null, not a number, or infinite."""
        return name_bad(~np.isfinite(items).all(axis=1), "has numbers that are not finite")

    def blanks(self, num_items: int) -> NDArray:
        """Zeros."""
        return np.zeros((num_items, self.size), self.dtype)

    def encode(self, items: NDArray) -> Encoded:
        """The vectors, as they are held."""
        return Encoded(items)
