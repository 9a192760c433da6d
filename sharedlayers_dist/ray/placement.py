"""Whether a cluster has room for a run, and what is missing if it has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller.state import (
    ReschedulingState,
    RunningState,
    SchedulingState,
)
from ray.util.placement_group import placement_group, remove_placement_group

from sharedlayers_dist.config import RayConfig
from sharedlayers_dist.errors import one_line
from sharedlayers_dist.ray.failures import RayRunError

Resources = dict[str, float]
_PATIENCE_IN_SILENCE = 5.0


def resources_per_worker(config: RayConfig) -> Resources:
    """What one worker takes."""
    gpu = {"GPU": 1.0} if config.use_gpu else {}
    return {"CPU": config.cpus_per_worker, **gpu}


def wait_for_resources(
    config: RayConfig, *, num_shard_actors: int, say: Callable[[str], None]
) -> None:
    """Returns when the workers and the shard actors could be placed.

    Args:
        config: What the run takes of its cluster.
        num_shard_actors: Shard actors of the run.
        say: Shows a line that names the missing resources, if it takes a while.

    Raises:
        RayRunError: after `placement_seconds`, naming what is missing.
    """
    fewest, _ = config.worker_range
    bundles = [resources_per_worker(config)] * fewest
    if config.cpus_per_shard_actor:
        bundles += [{"CPU": config.cpus_per_shard_actor}] * num_shard_actors
    bundles = [bundle for bundle in bundles if any(bundle.values())]
    if not bundles:
        return
    group = placement_group(bundles)
    try:
        patience = min(_PATIENCE_IN_SILENCE, config.placement_seconds)
        if group.wait(patience):
            return
        say(f"waiting for room: {describe_lack(bundles)}")
        if not group.wait(config.placement_seconds - patience):
            raise RayRunError(
                f"The run could not be placed within {config.placement_seconds:g} seconds. "
                f"Received: {describe_lack(bundles)}. Ask for fewer workers, CPUs or GPUs, add "
                "nodes, or give a longer --placement-seconds to a cluster that is to grow."
            )
    finally:
        remove_placement_group(group)


class EndAfterTries(ControllerCallback):
    """Ends a run whose workers could not be started so many times in a row.

    Ray Train's own limit counts the tries of the whole run, and a run on machines that come and go
    would use it up: each time that one has gone, the next workers may have to wait.

    Args:
        tries: How often Ray Train may try.
    """

    def __init__(self, tries: int) -> None:
        self._tries = tries
        self._num_failed = 0

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Counts; Ray Train calls it where it controls the workers.

        Raises:
            RayRunError: after the last try.
        """
        if isinstance(current_state, RunningState):
            self._num_failed = 0
        is_failed = isinstance(current_state, ReschedulingState)
        if not (is_failed and isinstance(previous_state, SchedulingState)):
            return
        self._num_failed += 1
        if self._num_failed > self._tries:
            raise RayRunError(
                f"The workers could not be started {self._num_failed} times in a row. Received: "
                f"{one_line(current_state.training_failed_error)}. Give a longer "
                "--placement-seconds to a cluster that is to grow."
            )


def describe_lack(bundles: list[Resources]) -> str:
    """What is asked for, and what the cluster has, resource by resource."""
    total, free = ray.cluster_resources(), ray.available_resources()
    num_nodes = sum(node["Alive"] for node in ray.nodes())
    parts = []
    for name in sorted({name for bundle in bundles for name in bundle}):
        asked = [bundle.get(name, 0.0) for bundle in bundles if bundle.get(name)]
        parts.append(
            f"{sum(asked):g} {name} in {len(asked)} piece(s) of up to {max(asked):g} asked for, "
            f"{total.get(name, 0.0):g} there on {num_nodes} node(s), {free.get(name, 0.0):g} free"
        )
    return "; ".join(parts)


def describe_resources(config: RayConfig) -> str:
    """What the fewest workers of a run need, and what the cluster has."""
    fewest, _ = config.worker_range
    return describe_lack([resources_per_worker(config)] * fewest)
