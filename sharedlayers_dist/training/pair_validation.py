"""Validating pairs by a model whose training takes something else than pairs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sharedlayers_dist import dist
from sharedlayers_dist.data import Reader, as_tf_dataset
from sharedlayers_dist.data.reading.batch import drop_skipped
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.compact import CompactView
from sharedlayers_dist.training.calibration import fit_scale_and_bias
from sharedlayers_dist.training.iterator_cleanup import releasing_iterators


class ValidatePairs(keras.callbacks.Callback):
    """Scores the validation pairs after each epoch, and adds the figures of all ranks to the logs.

    Where the loss has left the head alone, its scale and bias are fitted to these pairs first: the
    scores are probabilities then, in every checkpoint from the end of the first epoch on.

    Args:
        scorer: Gives scores of pairs; compiled.
        reader: This rank's validation pairs.
        head: The part of it that is to be fitted; None if it is trained.
        compare: Gives the cosines `(B, 1)` of two tensors of items, as the head takes them.

    Raises:
        UserError: at the end of an epoch, on all ranks, for pairs of one label alone.
    """

    def __init__(
        self, scorer: CompactView, reader: Reader, head: keras.layers.Dense | None, compare: Any
    ) -> None:
        super().__init__()
        self._scorer = scorer
        self._reader = reader
        self._head = head
        signature = [tf.TensorSpec((None, *codec.shape), codec.dtype) for codec in reader.codecs]
        self._compare = tf.function(compare, input_signature=signature)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Fits the head where it is to be fitted, and measures."""
        if self._head is not None:
            scale, bias = dist.broadcast_object(self._fit())
            self._head.set_weights([np.array([[scale]]), np.array([bias])])
        with releasing_iterators(self._scorer):
            pairs = as_tf_dataset(
                self._reader, lambda: (0, 0), shares_items=self._scorer.shares_items
            )
            self._scorer.evaluate(pairs, verbose=0)
        values = dist.exact_metrics(self._scorer)
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in values.items()})

    def _fit(self) -> tuple[float, float]:
        """Scale and bias that fit the pairs of all ranks."""
        # In the dataset's order, so that sums are rounded alike on any number of ranks.
        found = np.concatenate(dist.allgather_object(self._read_cosines()))
        _, label, weight, cosine = found[np.argsort(found[:, 0])].T
        if len(set(label[weight > 0])) < 2:
            raise UserError(
                "Validation pairs of both labels make a probability of a cosine. Received: "
                f"{len(label)} pairs of the labels {sorted(set(label))}."
            )
        return fit_scale_and_bias(cosine, label, weight)

    def _read_cosines(self) -> NDArray[np.float64]:
        """Row, label, weight and cosine of each of this rank's pairs, `(pairs, 4)`."""
        parts = [np.zeros((0, 4))]
        with self._reader.batches(0) as batches:
            for batch in batches:
                a, b, label, weight, rows = drop_skipped(batch, self._reader.codecs)
                if rows[0] >= 0:
                    cosine = self._compare(a, b).numpy()[:, 0]
                    parts.append(np.stack([rows, label[:, 0], weight, cosine], axis=1))
        return np.concatenate(parts)
