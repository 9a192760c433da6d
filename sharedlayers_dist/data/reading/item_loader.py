"""Where the items of batches of groups come from: from this host, or from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias

from sharedlayers_dist.data.items.codec import Encoded, ItemCodec, take_items
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.grouped_items import GroupedItems


class ItemLoader(Protocol):
    """Gives encoded items by their numbers."""

    def load(self, wanted: Iterable[Rows]) -> Iterator[Encoded]:
        """Gives the items of each step; what they are may be asked for ahead of time.

        Args:
            wanted: The numbers of the items of each step, in the order of the batch; none or more.
        """


OpenItems: TypeAlias = Callable[[GroupedItems, ItemCodec], ItemLoader]
"""Opens the items of a dataset, encoded with a codec."""


class LocalItemLoader:
    """Encodes items that are held on this host.

    Args:
        index: The items.
        codec: How they become those of a batch.
    """

    def __init__(self, index: GroupedItems, codec: ItemCodec) -> None:
        self._index = index
        self._codec = codec

    def load(self, wanted: Iterable[Rows]) -> Iterator[Encoded]:
        """See `ItemLoader`; the first step waits until all items of the dataset are read."""
        for numbers in wanted:
            yield self._codec.encode(take_items(self._index.items, numbers))
