"""What every kind of items can do: be read from a column, checked, and put into a batch.

Between reading and encoding, items are *held*: as an Arrow array, or as a NumPy array with the
items along its first axis. Of what is held, rows are taken, joined and blanked in the same way
whatever the kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Items: TypeAlias = pa.Array | NDArray
"""Items that are held. In an Arrow array a null is an item left blank."""
BadItems: TypeAlias = dict[int, str]
"""Why items cannot be used, by their places, as it goes on after the name of their column."""


class Encoded(NamedTuple):
    """Items as a batch has them."""

    values: NDArray
    """The items, shape `(items, *codec.shape)`, of type `codec.dtype`."""
    num_truncated: int = 0
    """How many were truncated."""
    bad: Mapping[int, str] = MappingProxyType({})
    """Those that only encoding could find to be bad; they are blank."""


class ItemCodec(Protocol):
    """How the values of a column become the items of a batch. Frozen, equal by value, picklable."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item in a batch."""

    @property
    def dtype(self) -> str:
        """NumPy's name of the numbers in a batch."""

    @property
    def kept(self) -> str:
        """What is kept of an item that is truncated, for people; empty where none is."""

    def read(self, column: pa.ChunkedArray) -> Items:
        """Holds the values of a column; a null becomes a blank."""

    def find_bad(self, items: Items, *, thoroughly: bool = False) -> BadItems:
        """Finds the items that cannot be used. That a value of the column is null is known.

        Args:
            items: Items as they were read.
            thoroughly: Whether to find those, too, that only encoding finds otherwise.
        """

    def blanks(self, num_items: int) -> Items:
        """As many blanks, held like any items."""

    def encode(self, items: Items) -> Encoded:
        """Encodes items without bad ones among them, in their order; a blank becomes zeros."""


class PairCodecs(NamedTuple):
    """The codecs of both sides of a pair."""

    a: ItemCodec
    b: ItemCodec

    @property
    def bytes_per_pair(self) -> int:
        """Bytes of one row of a batch's `a` and `b`."""
        return sum(int(np.prod(side.shape)) * np.dtype(side.dtype).itemsize for side in self)


def take_items(items: Items, places: NDArray[np.int64]) -> Items:
    """The items at some places, in the order asked for."""
    if isinstance(items, pa.Array):
        return items.take(pa.array(places))
    return items.take(places, axis=0)


def join_items(parts: Sequence[Items]) -> Items:
    """Items of one codec, end to end."""
    if isinstance(parts[0], pa.Array):
        return pa.concat_arrays(parts)
    return np.concatenate(parts)


def blank_items(items: Items, is_blank: NDArray[np.bool_]) -> Items:
    """The items with some of them left blank."""
    if isinstance(items, pa.Array):
        return pc.if_else(pa.array(is_blank), pa.scalar(None, items.type), items)
    return np.where(is_blank[(..., *[None] * (items.ndim - 1))], 0, items).astype(items.dtype)


def as_array(column: pa.ChunkedArray) -> pa.Array:
    """The values of a column in one piece."""
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def for_input(model_input: str) -> str:
    """How a rule on items goes on: with the input of a model that makes it, where one does.

    Example:
        >>> "must have 4" + for_input("the model m, whose input 'a' is float32 of the shape (4,)")
        "must have 4 for the model m, whose input 'a' is float32 of the shape (4,)"
    """
    return model_input and f" for {model_input}"


def name_bad(is_bad: NDArray[np.bool_], reason: str) -> BadItems:
    """The items that are bad for one reason."""
    return dict.fromkeys(np.flatnonzero(is_bad).tolist(), reason)
