"""What a loss is the mean over."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from sharedlayers_dist.dist.gradients.sample_counts import count_samples, refuse_masked_loss

WEIGHTS = tf.constant([0.5, 2.0, 0.0])


def mse(reduction: str | None) -> keras.losses.Loss:
    return keras.losses.MeanSquaredError(reduction=reduction)


@pytest.mark.parametrize(
    ("loss", "weights", "is_average", "count"),
    [
        ("mse", None, True, 3.0),
        ("mse", WEIGHTS, True, 3.0),
        (None, None, True, 3.0),
        ({"a": "mse", "b": mse("mean")}, WEIGHTS, True, 3.0),
        (mse("mean_with_sample_weight"), WEIGHTS, True, 2.5),
        (mse("mean_with_sample_weight"), None, True, 3.0),
        (lambda y, y_pred: y - y_pred, None, True, 3.0),
        (mse("sum"), WEIGHTS, False, 3.0),
    ],
)
def test_a_loss_is_the_mean_over(loss, weights, is_average, count):
    rows = tf.constant(3.0, tf.float64)
    assert float(count_samples(loss, rows, weights, is_average)) == count


@pytest.mark.parametrize(
    ("loss", "weights", "message"),
    [
        (mse("sum"), None, "op=dist.Sum"),
        (mse(None), None, "op=dist.Sum"),
        (["mse", mse("sum")], None, "op=dist.Sum"),
        (["mse", mse("mean_with_sample_weight")], WEIGHTS, "num_samples"),
        (mse("mean_with_sample_weight"), [WEIGHTS, WEIGHTS], "num_samples"),
    ],
)
def test_what_cannot_be_weighed_is_refused(loss, weights, message):
    with pytest.raises(ValueError, match=message):
        count_samples(loss, tf.constant(3.0, tf.float64), weights, True)


def test_a_mask_is_refused():
    output = tf.ones((2, 3))
    refuse_masked_loss({"a": output})
    output._keras_mask = tf.ones((2,), bool)
    with pytest.raises(ValueError, match="num_samples"):
        refuse_masked_loss({"a": output})
