"""Batches into `model.fit` through tf.data: the only file here that loads TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from sharedlayers_dist.data.reading.batch import Batch, drop_skipped
from sharedlayers_dist.data.reading.item_reader import ItemBatch, ItemReader
from sharedlayers_dist.data.reading.reader import Reader
from sharedlayers_dist.data.reading.shared_items import make_inputs


def as_tf_dataset(
    reader: Reader,
    position: Callable[[], tuple[int, int]],
    *,
    on_batch: Callable[[int, int], None] = lambda step, num_samples: None,
    shares_items: bool = False,
) -> tf.data.Dataset:
    """This rank's batches as `model.fit` takes them: `(x, y, sample_weight)`, one for each step.

    `x` is `{"a": ..., "b": ...}` as in `Batch`, `y` float32 `(n, 1)`, `sample_weight` float32
    `(n,)`. Bad rows that the reader skipped are left out, so that losses and metrics are means over
    the usable rows; a step without any on this rank is one padding row of label -1 and weight 0,
    which `dist.prepare(model, num_samples=...)` counts as nothing.

    With `shares_items` a batch has each different item once: `x` is then `{"items": ..., "a": ...,
    "b": ...}` as in `SharedItems`.

    Of an `ItemReader` elements are `(x, y)`: items `(n, *shape)` and int64 `(n, 2)`, the group and
    the key of each; or, of one that gives pairs, `(n, 2, *shape)` and int64 `(n, 3)`, the group and
    both keys. A rank without any gets one row of group -1.

    Each new iterator over the dataset asks `position` for the epoch and the step in it to start
    from, when its first element is asked for, and ends with that epoch. It keeps no state of its
    own: Keras makes an iterator for each epoch, and may make others to look at a batch.

    The number of steps is part of the dataset (Keras relies on it), as it is for the `position`
    at this call. A dataset that starts in mid-epoch therefore serves the rest of that one epoch.

    Args:
        reader: Gives the batches.
        position: Tells the epoch and the step in it to start from.
        on_batch: Is told, ahead of the training, each step of the epoch and this rank's samples in
            it, without padding; more than once for a step where there are several iterators.
        shares_items: Whether the items of pairs are given once each; both sides must be alike.
    """
    if isinstance(reader, ItemReader):
        return _as_dataset(reader, position, _ItemFeed(reader), on_batch)
    return _as_dataset(reader, position, _PairFeed(reader, shares_items=shares_items), on_batch)


class _PairFeed:
    """Batches of pairs as Keras takes them."""

    def __init__(self, reader: Reader, *, shares_items: bool) -> None:
        self._codecs = reader.codecs
        a, b = reader.codecs
        self._shares_items = shares_items and (a.shape, a.dtype) == (b.shape, b.dtype)
        items = {
            side: tf.TensorSpec((None, *codec.shape), codec.dtype)
            for side, codec in reader.codecs._asdict().items()
        }
        if self._shares_items:
            place = tf.TensorSpec((None,), tf.int32)
            items = {"items": items["a"], "a": place, "b": place}
        label, weight = tf.TensorSpec((None, 1), tf.float32), tf.TensorSpec((None,), tf.float32)
        self.signature = (items, label, weight)

    def convert(self, batch: Batch) -> tuple[Any, int]:
        """What Keras takes, and how many samples there are in it."""
        a, b, label, weight, _ = drop_skipped(batch, self._codecs)
        items = make_inputs(a, b, shares_items=self._shares_items)
        return (items, label, weight), int(np.count_nonzero(label != -1))


class _ItemFeed:
    """Batches of items, or of pairs of items, as Keras takes them."""

    def __init__(self, reader: ItemReader) -> None:
        codec, self._per_row = reader.codecs.a, 2 if reader.as_pairs else 1
        shape = (2, *codec.shape) if reader.as_pairs else codec.shape
        self.signature = (
            tf.TensorSpec((None, *shape), codec.dtype),
            tf.TensorSpec((None, 1 + self._per_row), tf.int64),
        )

    def convert(self, batch: ItemBatch) -> tuple[Any, int]:
        """What Keras takes, and how many samples there are in it."""
        items, group, key, _ = batch
        if self._per_row == 2:
            items = items.reshape(-1, 2, *items.shape[1:])
        group = group[:: self._per_row]
        target = np.column_stack([group, key.reshape(-1, self._per_row)])
        return (items, target), int(np.count_nonzero(group >= 0))


def _as_dataset(
    reader: Reader,
    position: Callable[[], tuple[int, int]],
    feed: _PairFeed | _ItemFeed,
    on_batch: Callable[[int, int], None],
) -> tf.data.Dataset:
    def generate() -> Iterator[Any]:
        epoch, step = position()
        with reader.batches(epoch, step) as batches:
            for number, batch in enumerate(batches, step):
                values, num_samples = feed.convert(batch)
                on_batch(number, num_samples)
                yield values

    _, start_step = position()
    batches = tf.data.Dataset.from_generator(generate, output_signature=feed.signature)
    # The reader is ahead already; one more batch hides the copy into TensorFlow's memory.
    batches = batches.prefetch(1).apply(
        tf.data.experimental.assert_cardinality(reader.steps_per_epoch - start_step)
    )
    # There is nothing to tune, and an iterator that ends waits until its tuner next wakes up, which
    # sleeps for twice as long each time: seconds at the end of each epoch.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)
