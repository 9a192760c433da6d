"""What the driver and the workers of one run tell each other beside Ray Train."""

from __future__ import annotations

import asyncio
import io
import threading
from contextlib import suppress
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sharedlayers_dist.training.preemption import StopRequest


class View(NamedTuple):
    """What the driver sees when it looks."""

    lines: list[str]
    """What rank zero has written since the last look."""
    failures: list[str]
    """What the workers have failed with since the last look."""
    num_ranks: int
    """Ranks of the group that runs; 0 until all of them have come."""


class Meeting:
    """The ranks of one group of workers, before they join.

    Args:
        start: How often workers were started before this group.
    """

    def __init__(self, start: int) -> None:
        self.start = start
        self.ranks: set[int] = set()
        self.refusal = ""
        self.is_over = asyncio.Event()


class _Control:
    """An actor on the driver's node that knows each rank's node, and passes on the wish to stop.

    One that dies is started again by Ray, which repeats the calls that were under way: so the new
    one hears of all ranks again. The driver repeats the wish to stop.
    """

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._node_of_rank: dict[int, str] = {}
        self._size = 0
        self._lines: list[str] = []
        self._failures: list[str] = []
        self._meeting = Meeting(-1)

    async def ask_to_stop(self) -> None:
        """Ends the waiting of all ranks."""
        self._stop.set()

    async def attend(self, rank: int, size: int, node: str) -> None:
        """Notes that a rank of so many runs on a node; returns when the run is to stop."""
        self._size = size
        self._node_of_rank[rank] = node
        await self._stop.wait()

    async def meet(self, start: int, rank: int, size: int) -> str:
        """Returns when all ranks of a group have come here, or one of them has refused.

        Args:
            start: How often workers were started before this group.
            rank: The rank that comes.
            size: Ranks of the group.

        Returns:
            Why the group cannot train, as the first rank that refused has said; empty if it can.
        """
        meeting = self._meeting_of(start)
        meeting.ranks.add(rank)
        if len(meeting.ranks) == size:
            meeting.is_over.set()
        await meeting.is_over.wait()
        return meeting.refusal

    async def refuse(self, start: int, refusal: str) -> str:
        """Ends the meeting of a group; returns what the first rank that refused has said."""
        meeting = self._meeting_of(start)
        meeting.refusal = meeting.refusal or refusal
        meeting.is_over.set()
        return meeting.refusal

    def _meeting_of(self, start: int) -> Meeting:
        if start > self._meeting.start:
            self._meeting = Meeting(start)
        return self._meeting

    async def places(self) -> dict[int, str]:
        """The node of each rank."""
        return self._node_of_rank

    async def fail(self, text: str) -> None:
        """Notes what the workers failed with; none of them runs any more."""
        self._failures.append(text)
        self._node_of_rank = {}

    async def write(self, line: str) -> None:
        """Leaves a line, or several, for people."""
        self._lines.append(line)

    async def look(self) -> View:
        """Hands over the lines and failures so far."""
        is_whole = len(self._node_of_rank) == self._size
        view = View(self._lines, self._failures, self._size if is_whole else 0)
        self._lines, self._failures = [], []
        return view


def start_control() -> Any:
    """Starts the actor beside the driver; it ends with the driver."""
    node = ray.get_runtime_context().get_node_id()
    return (
        ray.remote(_Control)
        .options(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        .remote()
    )


def attend(control: Any, request: StopRequest, *, rank: int, size: int, node: str) -> None:
    """Says that a rank of so many runs on a node; sets the request when the run is to stop."""

    def wait() -> None:
        with suppress(RayError):  # The driver has gone, and this worker goes with it.
            ray.get(control.attend.remote(rank, size, node))
            request.is_set = True

    threading.Thread(target=wait, name="stop request", daemon=True).start()


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
