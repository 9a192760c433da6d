"""Encoding items by the weights as they are, over all ranks: those that a model can tell apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sharedlayers_dist import dist, models
from sharedlayers_dist.data import ItemCodec
from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.world import World

_T = TypeVar("_T")


class DistinctItems:
    """Items that a model can tell apart, to be encoded by all ranks together.

    Equal rows of a batch may be encoded differently, by the last bit, at other places in it; so
    each is encoded once. Items are encoded in blocks that are the same on any number of ranks, of
    which each rank takes whole ones: sums are rounded alike then.

    Every rank must make it and call it.

    Args:
        view: Encodes items.
        read: Gives what the model takes of blocks of items, by their numbers: `(n, *shape)` each.
        codec: Says the shape and type of it.
        num_items: How many items there are.
        at_once: Items that are read and encoded at a time.
        world: Which rank this is.
    """

    def __init__(
        self,
        view: models.EncodingView,
        read: Callable[[Iterable[Rows]], Iterable[NDArray]],
        codec: ItemCodec,
        num_items: int,
        *,
        at_once: int,
        world: World,
    ) -> None:
        self._read = read
        own = share_blocks(_cut(np.arange(num_items), at_once), world)
        keys = join_ranks([content_keys(values) for values in read(own)])
        _, first, number = np.unique(keys, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.of_item: Rows = np.argsort(order)[number]
        """Number of each item's encoding, from 0, in the order in which they come first."""
        self._own_blocks = share_blocks(_cut(first[order], at_once), world)

        def encode(batch: Any) -> Any:
            return keras.ops.cast(view.encode(batch, training=False), "float32")

        signature = [tf.TensorSpec((None, *codec.shape), codec.dtype)]
        self._encode = tf.function(encode, input_signature=signature)

    def encode(self) -> NDArray[np.float32]:
        """Encodings of the distinct items, `(distinct, D)`, on all ranks."""
        values = self._read(self._own_blocks)
        return join_ranks([self._encode(tf.constant(block)).numpy() for block in values])


def share_blocks(blocks: Sequence[_T], world: World) -> Sequence[_T]:
    """This rank's part of blocks, as even as may be; ranks are in order.

    Example:
        >>> [share_blocks("abcde", World(rank=rank, size=2)) for rank in range(2)]
        ['ab', 'cde']
    """
    begin, stop = (len(blocks) * n // world.size for n in (world.rank, world.rank + 1))
    return blocks[begin:stop]


def join_ranks(own: list[NDArray]) -> NDArray:
    """The rows of all ranks, in their order; some rank must have an array."""
    return np.concatenate([part for of_rank in dist.allgather_object(own) for part in of_rank])


def _cut(numbers: Rows, at_once: int) -> list[Rows]:
    return [numbers[start : start + at_once] for start in range(0, len(numbers), at_once)]
