"""Whether a cluster has room for a run, and what is missing if it has not."""

from __future__ import annotations

from collections.abc import Callable

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from sharedlayers_dist.config import RayConfig
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
