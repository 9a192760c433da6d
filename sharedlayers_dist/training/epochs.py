"""The epochs of a run: Keras's `fit`, called so that a resumed run looks like one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from sharedlayers_dist.data import Reader, as_tf_dataset
from sharedlayers_dist.training.callbacks import ContinuousCallbackList
from sharedlayers_dist.training.iterator_cleanup import releasing_iterators
from sharedlayers_dist.training.position import PositionTracker
from sharedlayers_dist.training.readers import Readers
from sharedlayers_dist.training.trained_model import TrainedModel


def fit_epochs(
    trained: TrainedModel,
    readers: Readers,
    track: PositionTracker,
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback],
    on_batch: Callable[[int, int], None],
) -> None:
    """Trains from where `track` starts: once, or first for the rest of an epoch that was begun.

    Keras takes the number of steps from the dataset, once for a call of `fit`.

    Args:
        trained: The compiled model.
        readers: The pairs of this rank.
        track: The run's position.
        epochs: Epochs of the whole run.
        callbacks: Told of one training, however often `fit` is called.
        on_batch: Told of each step of the epoch and its pairs on this rank when it has been read.

    Raises:
        Exception: whatever a reader failed with, where TensorFlow tells its text alone.
    """
    model, shares_items = trained.view, trained.shares_items
    start = track.start
    ends = [start.epoch + 1, epochs] if start.step_of_epoch else [epochs]
    several = ContinuousCallbackList(
        callbacks, model=model, epochs=epochs, steps=readers.training.steps_per_epoch
    )
    first = start.epoch
    for end in ends:
        track.epoch_begins(first)
        try:
            with releasing_iterators(model):
                model.fit(
                    as_tf_dataset(
                        readers.training,
                        track.data_position,
                        on_batch=on_batch,
                        shares_items=shares_items,
                    ),
                    initial_epoch=first,
                    epochs=end,
                    verbose=0,
                    shuffle=False,  # The reader has done it.
                    validation_data=_validation_data(readers.validation, shares_items),
                    callbacks=several,
                )
        except tf.errors.OpError as error:
            for reader in readers:
                if reader is not None and reader.stats.error is not None:
                    raise reader.stats.error from error
            raise
        first = end
        if model.stop_training:
            break
    several.finish()


def _validation_data(reader: Reader | None, shares_items: bool) -> tf.data.Dataset | None:
    if reader is None:
        return None
    return as_tf_dataset(reader, lambda: (0, 0), shares_items=shares_items)
