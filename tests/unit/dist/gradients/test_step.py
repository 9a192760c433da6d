"""With one rank a model stays as it is; its loss is the mean over the samples that count."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import dist


def test_prepare_leaves_the_model_alone():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    before = dict(model.__dict__)
    assert dist.prepare(model) is model
    assert model.__dict__ == before


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_loss_logged_is_the_mean_over_the_samples_that_are_counted(jit_compile):
    """Of two batches the second is a row that is no sample: label -1 and weight 0."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    model.compile(
        dist.DistributedOptimizer(keras.optimizers.SGD(0.0)),
        "binary_crossentropy",
        weighted_metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    x, y, weight = np.eye(3), np.array([[1.0], [0], [-1]]), np.array([1.0, 0.5, 0])
    data = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(2)
    scores = model.predict(x, verbose=0)
    dist.prepare(model, num_samples=lambda x, y, weight: tf.math.count_nonzero(y >= 0))
    history = model.fit(data, validation_data=data, shuffle=False, verbose=0).history
    expected = (-np.log(scores[0]) - 0.5 * np.log(1 - scores[1])) / 2
    assert history["loss"] == pytest.approx(expected, rel=1e-5)
    assert history["val_loss"] == pytest.approx(expected, rel=1e-5)
    accuracy = ((scores[0] > 0.5) + 0.5 * (scores[1] <= 0.5)) / 1.5
    assert history["accuracy"] == history["val_accuracy"] == pytest.approx(accuracy)
