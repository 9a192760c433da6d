"""Vectors of one size, as encodings are that another model has made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharedlayers_dist.data.items.codec import BadItems, Encoded, as_array, for_input, name_bad
from sharedlayers_dist.data.items.sequences import lists_of_values


@dataclass(frozen=True, kw_only=True)
class _Vectors:
    """What codecs of vectors have in common."""

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


class VectorCodec(_Vectors):
    """Lists of `size` floats each.

    They are held as a NumPy array.

    Example:
        >>> codec = VectorCodec(size=2, dtype="float32")
        >>> column = pa.array([[0.5, 1.0], [0.0, np.nan]], pa.list_(pa.float64(), 2))
        >>> codec.find_bad(codec.read(pa.chunked_array([column])))
        {1: 'has numbers that are not finite'}
    """

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


@dataclass(frozen=True, kw_only=True)
class VectorListCodec(_Vectors):
    """Lists of floats that must have `size` each, where the type of their column does not say it.

    They are held as a `large_list` array. A size of 0 is to look at vectors of any one size, that
    of the first.

    Example:
        >>> codec = VectorListCodec(size=2, dtype="float32")
        >>> held = codec.read(pa.chunked_array([[[0.5, 1.0], [0.0, np.inf], [0.25]]]))
        >>> codec.find_bad(held)
        {1: 'has numbers that are not finite', 2: 'has 1 numbers and must have 2'}
        >>> codec.encode(held[:1]).values.tolist()
        [[0.5, 1.0]]
    """

    model_input: str = field(default="", compare=False, repr=False)
    """The input of a model that they are for, to be told with those that do not fit; or empty."""

    def read(self, column: pa.ChunkedArray) -> pa.Array:
        """Holds lists of any layout, of floats of any width; what is too large becomes infinite."""
        return as_array(column.cast(self._held, safe=False))

    def find_bad(self, items: pa.Array, *, thoroughly: bool = False) -> BadItems:
        """Finds the lists of another size, or with a number that is null or not finite."""
        numbers = items.flatten().to_numpy(zero_copy_only=False)
        infinite = lists_of_values(items)[~np.isfinite(numbers)]
        bad = dict.fromkeys(np.unique(infinite).tolist(), "has numbers that are not finite")
        sizes = items.value_lengths().drop_null().to_numpy()
        places = np.flatnonzero(items.is_valid().to_numpy(zero_copy_only=False))
        size = self.size or (int(sizes[0]) if sizes.size else 0)
        return bad | {
            place: f"has {found} numbers and must have {size}{for_input(self.model_input)}"
            for place, found in zip(places.tolist(), sizes.tolist(), strict=True)
            if found != size
        }

    def blanks(self, num_items: int) -> pa.Array:
        """No vectors."""
        return pa.nulls(num_items, self._held)

    def encode(self, items: pa.Array) -> Encoded:
        """The vectors; those that are blank are zeros."""
        vectors = np.zeros((len(items), self.size), self.dtype)
        numbers = items.flatten().to_numpy(zero_copy_only=False)
        is_there = items.is_valid().to_numpy(zero_copy_only=False)
        vectors[is_there] = numbers.reshape(-1, self.size)
        return Encoded(vectors)

    @property
    def _held(self) -> pa.DataType:
        return pa.large_list(pa.from_numpy_dtype(np.dtype(self.dtype)))
