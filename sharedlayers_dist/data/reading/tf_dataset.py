"""Batches into `model.fit` through tf.data: the only file here that loads TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from sharedlayers_dist.data.reading.batch import drop_skipped
from sharedlayers_dist.data.reading.reader import Reader


def as_tf_dataset(
    reader: Reader,
    position: Callable[[], tuple[int, int]],
    *,
    on_batch: Callable[[int, int], None] = lambda step, num_samples: None,
) -> tf.data.Dataset:
    """This rank's batches as `model.fit` takes them: `(x, y, sample_weight)`, one for each step.

    `x` is `{"a": ..., "b": ...}` as in `Batch`, `y` float32 `(n, 1)`, `sample_weight` float32
    `(n,)`. Bad rows that the reader skipped are left out, so that losses and metrics are means over
    the usable rows; a step without any on this rank is one padding row of label -1 and weight 0,
    which `dist.prepare(model, num_samples=...)` counts as nothing.

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
    """
    sides = reader.codecs._asdict()
    signature = (
        {side: tf.TensorSpec((None, *codec.shape), codec.dtype) for side, codec in sides.items()},
        tf.TensorSpec((None, 1), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )

    def generate() -> Iterator[Any]:
        epoch, step = position()
        with reader.batches(epoch, step) as batches:
            for number, batch in enumerate(batches, step):
                a, b, label, weight, _ = drop_skipped(batch, reader.codecs)
                on_batch(number, int(np.count_nonzero(label != -1)))
                yield {"a": a, "b": b}, label, weight

    _, start_step = position()
    batches = tf.data.Dataset.from_generator(generate, output_signature=signature)
    # The reader is ahead already; one more batch hides the copy into TensorFlow's memory.
    return batches.prefetch(1).apply(
        tf.data.experimental.assert_cardinality(reader.steps_per_epoch - start_step)
    )
