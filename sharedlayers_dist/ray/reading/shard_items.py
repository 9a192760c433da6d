"""Items from shard actors: asks them ahead of time, and puts together what they send."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import ray

from sharedlayers_dist.data import GroupedItems, ItemCodec
from sharedlayers_dist.data.items.codec import Encoded
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.ray.reading.item_work import ItemsRequest, ItemWork
from sharedlayers_dist.ray.reading.shard_requests import ShardRequests

_MOST_BYTES_AT_ONCE = 1 << 25
_REQUESTS_AHEAD = 2


class _Asked(NamedTuple):
    """The items of a few steps, under way."""

    sizes: list[int]
    """Items of each step."""
    places: list[Rows]
    """Where those of each request go, among all of these steps."""
    requests: list[ItemsRequest]
    references: list[ray.ObjectRef]


class ShardItemLoader:
    """Items that shard actors hold and encode; see `ItemLoader`.

    Actor a of V reads every V-th part of the dataset once, and holds it on its node's disk. A
    trainer asks each actor for its items of some steps at once, twice ahead, and reads no file.

    Args:
        actors: The run's shard actors, in the same order on every trainer.
        index: The items.
        codec: How they become those of a batch.
        items_at_once: Items of a trainer that are asked for at once at most (32 MiB of large ones,
            and one step at least).
    """

    def __init__(
        self,
        actors: Sequence[Any],
        index: GroupedItems,
        codec: ItemCodec,
        *,
        items_at_once: int = 16_384,
    ) -> None:
        self._codec = codec
        self._num_parts = len(actors)
        self._work = ItemWork(index, codec)
        self._requests: ShardRequests[ItemsRequest] = ShardRequests(actors, self._work)
        bytes_per_item = int(np.prod(codec.shape)) * np.dtype(codec.dtype).itemsize
        self._items_at_once = min(items_at_once, _MOST_BYTES_AT_ONCE // bytes_per_item)

    def load(self, wanted: Iterable[Rows]) -> Iterator[Encoded]:
        """See `ItemLoader`.

        Raises:
            Exception: what an actor failed with.
            RuntimeError: for an actor that is gone and does not come back.
        """
        spans = self._cut(wanted)
        under_way = deque(self._ask(span) for span in islice(spans, _REQUESTS_AHEAD))
        while under_way:
            values, num_truncated, _ = self._receive(under_way[0])
            sizes = under_way.popleft().sizes  # What was received may leave the object store.
            under_way.extend(self._ask(span) for span in islice(spans, 1))
            for step, part in enumerate(np.split(values, np.cumsum(sizes)[:-1])):
                yield Encoded(part, 0 if step else num_truncated)

    def _cut(self, wanted: Iterable[Rows]) -> Iterator[list[Rows]]:
        """Steps whose items are asked for at once."""
        span: list[Rows] = []
        num_items = 0
        for items in wanted:
            if span and num_items + items.size > self._items_at_once:
                yield span
                span, num_items = [], 0
            span.append(items)
            num_items += items.size
        if span:
            yield span

    def _ask(self, span: list[Rows]) -> _Asked:
        """Asks each actor for its items of some steps."""
        items = np.concatenate(span)
        holder = self._work.holder_of(items, self._num_parts)
        parts = np.unique(holder).tolist()
        places = [np.flatnonzero(holder == part) for part in parts]
        requests = [
            ItemsRequest(self._work.key, part, self._num_parts, items[there])
            for part, there in zip(parts, places, strict=True)
        ]
        references = [self._requests.send(request) for request in requests]
        return _Asked([len(step) for step in span], places, requests, references)

    def _receive(self, asked: _Asked) -> Encoded:
        """Waits for the items of some steps, and puts them into their order."""
        values = np.empty((sum(asked.sizes), *self._codec.shape), self._codec.dtype)
        num_truncated = 0
        for places, request, reference in zip(
            asked.places, asked.requests, asked.references, strict=True
        ):
            chunk = self._requests.receive(request, reference)
            if isinstance(chunk.result, Exception):
                raise chunk.result
            values[places] = chunk.result
            num_truncated += chunk.num_truncated
        return Encoded(values, num_truncated)
