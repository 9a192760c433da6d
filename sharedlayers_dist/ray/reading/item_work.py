"""Items by their numbers, shared out among shard actors by row groups."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data import GroupedItems, ItemCodec
from sharedlayers_dist.data.items.codec import Items, take_items
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.ray.reading.work import Chunk


class ItemsRequest(NamedTuple):
    """Some items that one actor holds; see `Request`."""

    key: str
    part: int
    num_parts: int
    items: Rows
    """Their numbers, in the order wanted."""
    is_repeated: bool = False

    def repeated(self) -> Self:
        """The same request, made once more."""
        return self._replace(is_repeated=True)


@dataclass(frozen=True)
class ItemWork:
    """Items of a dataset, encoded; the result of a request is an array of them.

    Part p of V holds the items of every V-th part of the dataset, on its node's disk.
    """

    index: GroupedItems
    codec: ItemCodec

    @cached_property
    def key(self) -> str:
        """See `Work`; all trainers have the same."""
        named = (self.index.uri, self.index.fingerprint, self.codec)
        return hashlib.sha256(repr(named).encode()).hexdigest()

    def holder_of(self, items: Rows, num_parts: int) -> Rows:
        """Which of so many parts holds each of some items."""
        return self.index.part_of(items) % num_parts

    def open(self, part: int, num_parts: int) -> _HeldPart:
        """See `Work`."""
        return _HeldPart(self, np.arange(part, len(self.index.parts), num_parts))

    def row_groups_of(self, request: ItemsRequest) -> range:
        """See `Work`: an actor reads all that it holds before it serves any."""
        return range(request.part, len(self.index.parts), request.num_parts)

    def place_of_group(self, group: int) -> str:
        """See `Work`."""
        return self.index.parts[group].place

    def rows_of_group(self, group: int) -> int:
        """See `Work`."""
        return int(np.diff(self.index.part_starts)[group])

    def try_row_group(self, group: int) -> None:
        """See `Work`."""
        self.index.store_parts([group])


class _HeldPart:
    """The items of some parts of a dataset.

    Args:
        work: All items.
        parts: The numbers of the parts, ascending.
    """

    def __init__(self, work: ItemWork, parts: Rows) -> None:
        self._work = work
        self._parts = parts
        self.last_used = time.monotonic()

    def read(self, request: ItemsRequest, node: str) -> Chunk:
        """Gives the items; the first request waits until all of the part are read."""
        result: NDArray | Exception
        num_truncated = 0
        try:
            items = take_items(self._items, self._places_of(request.items))
            result, num_truncated, _ = self._work.codec.encode(items)
        except Exception as error:  # Whatever it is, it is the trainer's to raise.
            result = error
        self.last_used = time.monotonic()
        return Chunk(result, num_truncated, {}, node)

    @cached_property
    def _items(self) -> Items:
        return self._work.index.store_parts(self._parts.tolist())

    def _places_of(self, items: Rows) -> Rows:
        """Where items are among those that are held."""
        index = self._work.index
        sizes = np.diff(index.part_starts)[self._parts]
        begins = index.part_starts[self._parts] - (np.cumsum(sizes) - sizes)
        return items - begins[np.searchsorted(self._parts, index.part_of(items))]

    def close(self) -> None:
        """Lets go of the items."""
        self.__dict__.pop("_items", None)
