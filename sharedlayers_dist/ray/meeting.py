"""The workers of a group before its ranks join: all of them have come, or one has refused.

Ranks that join wait for each other within Horovod, where nothing can reach them. A worker that ends
before it joins, for a mistake of the user that it alone has met, would leave the others there until
their time to connect is over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.train
from ray.exceptions import GetTimeoutError

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.backend import CONNECT_SECONDS, num_restarts


def meet(control: Any) -> None:
    """Waits for the other ranks; to be called on each worker before it joins them.

    Args:
        control: The run's control actor.

    Raises:
        UserError: where a rank has refused; says why.
        RuntimeError: where a rank has not come within the time to connect.
    """
    context, seconds = ray.train.get_context(), float(os.environ[CONNECT_SECONDS])
    rank, size = context.get_world_rank(), context.get_world_size()
    coming = control.meet.remote(num_restarts(), rank, size)
    try:
        refusal = str(ray.get(coming, timeout=seconds))
    except GetTimeoutError:
        raise RuntimeError(
            f"All ranks must be ready to join within {seconds:g} seconds. Received: rank {rank} of "
            f"{size} is, and another is not. HorovodConfig(connect_seconds=...) gives them longer."
        ) from None
    if refusal:
        raise UserError(refusal)


@contextmanager
def refusing(control: Any) -> Iterator[None]:
    """Tells the other ranks of a UserError within the block.

    Args:
        control: The run's control actor.

    Raises:
        UserError: the first that any rank has met.
    """
    try:
        yield
    except UserError as error:
        raise refuse(control, str(error)) from error


def refuse(control: Any, reason: str) -> UserError:
    """Says that this rank will not join, and why; the others then will not, either.

    Args:
        control: The run's control actor.
        reason: What a user got wrong.

    Returns:
        The mistake of the first rank that refused, which all ranks return.
    """
    context = ray.train.get_context()
    if context.get_world_size() > 1:
        node = ray.util.get_node_ip_address()
        reason = f"Rank {context.get_world_rank()} on the node {node} failed: {reason}"
    return UserError(str(ray.get(control.refuse.remote(num_restarts(), reason))))
