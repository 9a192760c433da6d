"""Horovod for Keras 3: any model's own `fit`, over many ranks, exactly.

Three lines change a script for one process:

    dist.init()
    optimizer = dist.DistributedOptimizer(optimizer)
    model.fit(..., callbacks=dist.default_callbacks())

This is the only part of the package that imports Horovod, and it does so only where a launcher
started several ranks. With one rank all of it does nothing. The public names are imported on first
use, so that a launcher can serve a rendezvous without loading TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharedlayers_dist.dist.batch_norm import SyncBatchNormalization as SyncBatchNormalization
    from sharedlayers_dist.dist.callbacks.defaults import default_callbacks as default_callbacks
    from sharedlayers_dist.dist.callbacks.early_stopping import (
        AgreedEarlyStopping as AgreedEarlyStopping,
    )
    from sharedlayers_dist.dist.callbacks.early_stopping import (
        AgreedReduceLROnPlateau as AgreedReduceLROnPlateau,
    )
    from sharedlayers_dist.dist.callbacks.exact_metrics import ExactMetrics as ExactMetrics
    from sharedlayers_dist.dist.callbacks.exact_metrics import exact_metrics as exact_metrics
    from sharedlayers_dist.dist.callbacks.initial_state import (
        BroadcastInitialState as BroadcastInitialState,
    )
    from sharedlayers_dist.dist.callbacks.initial_state import broadcast_state as broadcast_state
    from sharedlayers_dist.dist.callbacks.learning_rate import (
        LearningRateWarmup as LearningRateWarmup,
    )
    from sharedlayers_dist.dist.callbacks.learning_rate import (
        scale_learning_rate as scale_learning_rate,
    )
    from sharedlayers_dist.dist.callbacks.replica_guard import ReplicaGuard as ReplicaGuard
    from sharedlayers_dist.dist.callbacks.replica_guard import check_replicas as check_replicas
    from sharedlayers_dist.dist.collective_timing import collective_seconds as collective_seconds
    from sharedlayers_dist.dist.collectives import Collectives as Collectives
    from sharedlayers_dist.dist.collectives import HorovodCollectives as HorovodCollectives
    from sharedlayers_dist.dist.collectives import allgather_array as allgather_array
    from sharedlayers_dist.dist.collectives import allgather_object as allgather_object
    from sharedlayers_dist.dist.collectives import allreduce_sum as allreduce_sum
    from sharedlayers_dist.dist.collectives import barrier as barrier
    from sharedlayers_dist.dist.collectives import broadcast_arrays as broadcast_arrays
    from sharedlayers_dist.dist.collectives import broadcast_object as broadcast_object
    from sharedlayers_dist.dist.collectives import raise_on_all_ranks as raise_on_all_ranks
    from sharedlayers_dist.dist.failure import OtherRankFailedError as OtherRankFailedError
    from sharedlayers_dist.dist.failure import shared_failure as shared_failure
    from sharedlayers_dist.dist.gradients.optimizer import (
        DistributedOptimizer as DistributedOptimizer,
    )
    from sharedlayers_dist.dist.gradients.reduction import Adasum as Adasum
    from sharedlayers_dist.dist.gradients.reduction import Average as Average
    from sharedlayers_dist.dist.gradients.reduction import Sum as Sum
    from sharedlayers_dist.dist.gradients.step import prepare as prepare
    from sharedlayers_dist.dist.gradients.weighting import local_batch as local_batch
    from sharedlayers_dist.dist.rendezvous import Rendezvous as Rendezvous
    from sharedlayers_dist.dist.runtime import init as init
    from sharedlayers_dist.dist.runtime import rank as rank
    from sharedlayers_dist.dist.runtime import shutdown as shutdown
    from sharedlayers_dist.dist.runtime import size as size
    from sharedlayers_dist.dist.runtime import world as world
    from sharedlayers_dist.errors import CollectiveRuntimeError as CollectiveRuntimeError

_HOME_OF_NAME = {
    "Adasum": "gradients.reduction",
    "AgreedEarlyStopping": "callbacks.early_stopping",
    "AgreedReduceLROnPlateau": "callbacks.early_stopping",
    "Average": "gradients.reduction",
    "BroadcastInitialState": "callbacks.initial_state",
    "CollectiveRuntimeError": "collectives",
    "Collectives": "collectives",
    "DistributedOptimizer": "gradients.optimizer",
    "ExactMetrics": "callbacks.exact_metrics",
    "HorovodCollectives": "collectives",
    "LearningRateWarmup": "callbacks.learning_rate",
    "OtherRankFailedError": "failure",
    "Rendezvous": "rendezvous",
    "ReplicaGuard": "callbacks.replica_guard",
    "Sum": "gradients.reduction",
    "SyncBatchNormalization": "batch_norm",
    "allgather_array": "collectives",
    "allgather_object": "collectives",
    "allreduce_sum": "collectives",
    "barrier": "collectives",
    "broadcast_arrays": "collectives",
    "broadcast_object": "collectives",
    "broadcast_state": "callbacks.initial_state",
    "check_replicas": "callbacks.replica_guard",
    "collective_seconds": "collective_timing",
    "default_callbacks": "callbacks.defaults",
    "exact_metrics": "callbacks.exact_metrics",
    "init": "runtime",
    "local_batch": "gradients.weighting",
    "prepare": "gradients.step",
    "raise_on_all_ranks": "collectives",
    "rank": "runtime",
    "scale_learning_rate": "callbacks.learning_rate",
    "shared_failure": "failure",
    "shutdown": "runtime",
    "size": "runtime",
    "world": "runtime",
}
__all__ = sorted(_HOME_OF_NAME)


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name in _HOME_OF_NAME:
        return getattr(import_module(f"{__name__}.{_HOME_OF_NAME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted([*globals(), *__all__])
