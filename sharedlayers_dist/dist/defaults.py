"""The callbacks that every run over many ranks wants."""

from __future__ import annotations

import keras

from sharedlayers_dist.dist.broadcast import BroadcastInitialState
from sharedlayers_dist.dist.guard import ReplicaGuard
from sharedlayers_dist.dist.metric_sums import ExactMetrics


def default_callbacks() -> list[keras.callbacks.Callback]:
    """Returns what to put first into `fit(callbacks=[...])`: start alike, stay alike, log exactly.

    That is `BroadcastInitialState()`, `ReplicaGuard()` and `ExactMetrics()`. Callbacks after them
    in the list see exact metrics.
    """
    return [BroadcastInitialState(), ReplicaGuard(), ExactMetrics()]
