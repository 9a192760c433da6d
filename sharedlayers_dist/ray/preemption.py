"""Ray's notice that nodes of the run are about to be taken away, and how the run leaves them.

Ray Train's public `get_preemption_info()` is a collective, which all ranks would have to call
before each step. What it starts from lies in each worker's memory; that is read here alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import PreemptionInfo
from ray.train.v2._internal.execution.context import get_train_context

from sharedlayers_dist.ray.failures import NodeTakenAwayError

SECONDS_TO_LEAVE = 60.0
"""How long before a node is taken away the run leaves it: for the step under way, the next one, and
a checkpoint."""
_SECONDS_TO_ANSWER = 5.0


class Notice:
    """What Ray has told this worker of nodes that are about to be taken away.

    The worker's process hears of it from Ray's watcher; nothing is asked here.
    """

    def __init__(self) -> None:
        self._context = get_train_context().preemption_context

    def is_due(self) -> bool:
        """Whether the run is to leave now."""
        return is_due(self._context.preemption_info, now=time.time())

    def describe(self, *, saved_after: int) -> str:
        """One line for people about a run that leaves."""
        info = self._context.preemption_info
        when = "soon"
        if info is not None and info.deadline_ms is not None:
            when = f"in {max(0.0, info.deadline_ms / 1000 - time.time()):.0f} s"
        return (
            f"{self._describe_nodes()} {when}: saved after step {saved_after}, to go on from there"
        )

    def error(self) -> NodeTakenAwayError:
        """What ends this worker, so that Ray Train starts others without counting a failure."""
        return NodeTakenAwayError(self._describe_nodes())

    def move(self, actors: Sequence[Any]) -> None:
        """Has Ray start those actors elsewhere that run on the nodes.

        A node that is to be taken away leaves the cluster when nothing runs on it any more. While
        it is there, Ray Train counts it as room for workers, and waits in vain to place them.

        Args:
            actors: The run's shard actors.
        """
        asked = [actor.ping.remote() for actor in actors]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=_SECONDS_TO_ANSWER)
        for actor, answer in zip(actors, asked, strict=True):
            with suppress(RayError):  # An actor that has gone is started elsewhere anyway.
                if answer in ready and ray.get(answer) in self._nodes():
                    ray.kill(actor, no_restart=False)

    def _nodes(self) -> Sequence[str]:
        info = self._context.preemption_info
        return [] if info is None else info.preempted_node_ids

    def _describe_nodes(self) -> str:
        gone = self._nodes()
        names = [node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] in gone]
        if not names:  # Only rank zero waits for the notice.
            return "a node of the run is taken away"
        if len(names) == 1:
            return f"the node {names[0]} is taken away"
        return f"the nodes {', '.join(sorted(names))} are taken away"


def is_due(info: PreemptionInfo | None, *, now: float) -> bool:
    """Whether a run that has this notice is to leave now, in seconds since 1970.

    Until then it trains on: no node of the cluster is lost to it before it has to be.
    """
    if info is None:
        return False
    return info.deadline_ms is None or now >= info.deadline_ms / 1000 - SECONDS_TO_LEAVE
