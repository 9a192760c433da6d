"""The callbacks that every run over many ranks wants."""

from __future__ import annotations

import keras

from sharedlayers_dist.dist.callbacks.exact_metrics import ExactMetrics
from sharedlayers_dist.dist.callbacks.initial_state import BroadcastInitialState
from sharedlayers_dist.dist.callbacks.replica_guard import ReplicaGuard


def default_callbacks() -> list[keras.callbacks.Callback]:
    """Returns what to put first into `fit(callbacks=[...])`: start alike, stay alike, log exactly.

    That is `BroadcastInitialState()`, `ReplicaGuard()` and `ExactMetrics()`. Callbacks after them
    in the list see exact metrics.
    """
    return [BroadcastInitialState(), ReplicaGuard(), ExactMetrics()]
