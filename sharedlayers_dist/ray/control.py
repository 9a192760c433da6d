"""What the driver and the workers of one run tell each other beside Ray Train."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sharedlayers_dist.training.preemption import StopRequest


class View(NamedTuple):
    """What the driver sees when it looks."""

    lines: list[str]
    """What rank zero has written since the last look."""
    num_ranks: int
    """Ranks that run."""
    failure: str
    """What the workers failed with last; empty if they have not."""


class _Control:
    """An actor on the driver's node that knows who runs where, and passes on the wish to stop."""

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._node_of_rank: dict[int, str] = {}
        self._lines: list[str] = []
        self._failure = ""

    async def ask_to_stop(self) -> None:
        """Ends the waiting of all ranks."""
        self._stop.set()

    async def wait_for_stop(self) -> None:
        """Returns when the run is to stop."""
        await self._stop.wait()

    async def place(self, rank: int, node: str) -> None:
        """Notes that a rank runs on a node."""
        self._node_of_rank[rank] = node

    async def places(self) -> dict[int, str]:
        """The node of each rank."""
        return self._node_of_rank

    async def fail(self, text: str) -> None:
        """Notes what the workers failed with; none of them runs any more."""
        self._failure = text
        self._node_of_rank = {}

    async def write(self, line: str) -> None:
        """Leaves a line for people."""
        self._lines.append(line)

    async def look(self) -> View:
        """What there is to see."""
        lines, self._lines = self._lines, []
        return View(lines, len(self._node_of_rank), self._failure)


def start_control() -> Any:
    """Starts the actor beside the driver; it ends with the driver."""
    node = ray.get_runtime_context().get_node_id()
    return (
        ray.remote(_Control)
        .options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote()
    )


@contextmanager
def listen_to(control: Any) -> Iterator[StopRequest]:
    """Turns the driver's wish to stop into a request while the block runs."""
    request = StopRequest()

    def wait() -> None:
        with suppress(RayError):  # The driver has gone, and this worker goes with it.
            ray.get(control.wait_for_stop.remote())
            request.is_set = True

    threading.Thread(target=wait, name="stop request", daemon=True).start()
    yield request


class DriverStream(io.TextIOBase):
    """Shows what is written to it where the driver runs, line by line.

    Args:
        control: The run's control actor.
    """

    def __init__(self, control: Any) -> None:
        self._control = control
        self._begun = ""

    def write(self, text: str) -> int:
        """Passes on each line once it is whole."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._control.write.remote(line)
        return len(text)
