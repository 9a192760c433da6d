"""Which metrics can be added."""

from __future__ import annotations

import keras

from sharedlayers_dist.dist.callbacks.exact_metrics import is_additive


def test_metrics_say_whether_they_can_be_added():
    class Own(keras.metrics.Mean):
        pass

    class Added(Own):
        additive = True

    class Refused(keras.metrics.Mean):
        additive = False

    assert is_additive(keras.metrics.AUC())
    assert is_additive(keras.metrics.MeanMetricWrapper(lambda y, y_pred: y - y_pred))
    assert is_additive(Added())
    assert not is_additive(Own())
    assert not is_additive(Refused())
