"""The model of a run, ready to be trained on every rank."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import TrainConfig


class TrainedModel(NamedTuple):
    """One model with two kinds of inputs; both use the same layers and weights."""

    plain: keras.Model
    """Takes the notebook's inputs; what a run leaves behind."""
    compact: keras.Model
    """Takes what batches carry; compiled, and what is trained."""


def build_model(config: TrainConfig) -> TrainedModel:
    """Builds and compiles the model that `config` names, its weights drawn from Keras's seed.

    Its optimizer is distributed and built, so that a checkpoint can be restored into it.
    """
    plain = models.build(config.model, head=config.head)
    compact = models.compact_view(plain)
    compact.compile(
        optimizer=dist.DistributedOptimizer(keras.optimizers.RMSprop(config.learning_rate)),
        loss="binary_crossentropy",
        weighted_metrics=["accuracy", keras.metrics.AUC(name="roc_auc")],
    )
    compact.optimizer.build(compact.trainable_variables)
    dist.prepare(compact, num_samples=_count_pairs)
    return TrainedModel(plain, compact)


def _count_pairs(x: Any, y: tf.Tensor, sample_weight: Any) -> tf.Tensor:
    """Pairs of a batch on this rank; the padding row of a rank without pairs has the label -1."""
    return tf.reduce_sum(tf.cast(y >= 0, tf.float32))
