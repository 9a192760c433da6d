"""That all processes of a run have the same sources of this package; another copy is refused.

A process that runs another copy cannot be asked by means of that copy. So the functions here are
sent to it by value, and use nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sharedlayers_dist.errors import UserError

_SECONDS_TO_ANSWER = 60.0
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Sources(NamedTuple):
    """One copy of this package."""

    folder: str
    digest: str
    """SHA-256 of the names and contents of its Python files."""


def read_sources() -> Sources:
    """The copy of this package that the calling process imports."""
    import sharedlayers_dist

    folder = Path(sharedlayers_dist.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return Sources(str(folder), digest.hexdigest())


def describe_difference(expected: Sources, found: Sources, node: str) -> str:
    """What is wrong with the copy found on a node; empty if its sources are the expected ones."""
    if found.digest == expected.digest:
        return ""
    return (
        "All processes of a run must have the same sources of sharedlayers_dist. Received: "
        f"{expected.folder} in the driver, and {found.folder}, which differs from it, on the node "
        f"{node}. Install the same version in both places, and start the driver after that; if the "
        "second is a copy that should not be used, start the driver in another folder."
    )


def require_same_sources(expected: Sources) -> None:
    """Compares the sources on every node that the cluster has now.

    Args:
        expected: The driver's own.

    Raises:
        UserError: for a node where processes of this run import another copy, or none.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    read = ray.remote(num_cpus=0, max_retries=0)(read_sources)
    asked = {
        read.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(): node["NodeManagerAddress"]
        for node in nodes
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS_TO_ANSWER)
    for reference in answered:
        try:
            found = ray.get(reference)
        except RayTaskError as error:
            raise UserError(
                "Every node of the cluster must have sharedlayers_dist installed. Received: the "
                f"node {asked[reference]}, where it cannot be read: {error.cause}. Install it "
                "there, as launch/setup.sh does."
            ) from error
        except RayError:  # A node that has just gone will not run anything either.
            continue
        if difference := describe_difference(expected, found, asked[reference]):
            raise UserError(difference)
