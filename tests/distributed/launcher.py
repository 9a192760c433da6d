"""Starts real Horovod ranks over Gloo on this machine, with a time limit, and reaps them.

`run_ranks` does what `horovodrun -np N` does, without its checks of hosts and network interfaces,
which take seconds: it serves Gloo's rendezvous itself and gives each rank its place by environment.
Ranks are forks of a process that has loaded TensorFlow, which takes more seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import NamedTemporaryFile

from sharedlayers_dist.dist import Rendezvous
from tests.distributed.fork_server import start_rank

REPOSITORY = Path(__file__).resolve().parents[2]
SAME_ARITHMETIC = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
"""Variables with which sums are rounded alike in all processes that are to be compared."""
RANK_ENVIRONMENT = SAME_ARITHMETIC | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
SECONDS_AFTER_FIRST_FAILURE = 20.0
"""How long the other ranks may take to notice that one has failed, unless a test says more."""


@dataclass(frozen=True, kw_only=True)
class RankResult:
    """How one rank ended."""

    rank: int
    returncode: int
    output: str
    """Standard output and standard error, interleaved."""
    seconds: float
    """From the start of the ranks to the end of this one."""


# Long because it starts, watches, ends and reads processes, whatever happens in between.
def run_ranks(
    module: str,
    num_ranks: int,
    *args: object,
    timeout: float = 150.0,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    seconds_after_first_failure: float = SECONDS_AFTER_FIRST_FAILURE,
) -> list[RankResult]:
    """Runs `python -m module *args` as `num_ranks` Horovod ranks (or one process without Horovod).

    Args:
        module: Module below the repository's root, e.g. `tests.distributed.workers.train`; or a
            path ending in `.py`.
        num_ranks: 1 starts one plain process with no variable of Horovod set.
        *args: Command line of every rank; each is turned into a string.
        timeout: Seconds after which all ranks are killed and the test fails.
        env: Further variables of every rank.
        check: Whether a rank's exit code other than 0 fails the test. If not, ranks that outlive
            one that failed are killed, and have the exit code -9.
        seconds_after_first_failure: How long the others may outlive the first rank that fails.

    Returns:
        How each rank ended, in the order of ranks.
    """
    base = {key: value for key, value in os.environ.items() if not key.startswith("HOROVOD_")}
    base |= RANK_ENVIRONMENT | {
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    base |= env or {}
    with ExitStack() as stack:
        places: list[dict[str, str]] = [{}]
        if num_ranks > 1:
            server = stack.enter_context(Rendezvous(["localhost"] * num_ranks, address="127.0.0.1"))
            places = [server.environment(rank, interface="lo") for rank in range(num_ranks)]
        outputs = [Path(stack.enter_context(NamedTemporaryFile()).name) for _ in places]
        started = time.monotonic()
        processes = [
            start_rank(
                module,
                [str(arg) for arg in args],
                env=base | place,
                folder=REPOSITORY,
                output=output,
            )
            for place, output in zip(places, outputs, strict=True)
        ]
        try:
            ended = _wait(processes, started, timeout, seconds_after_first_failure)
        finally:
            for process in processes:
                process.kill()
                process.join()
        results = [
            RankResult(
                rank=rank,
                returncode=process.exitcode or 0,
                output=output.read_bytes().decode(errors="replace"),
                seconds=ended.get(rank, time.monotonic() - started),
            )
            for rank, (process, output) in enumerate(zip(processes, outputs, strict=True))
        ]
    hung = [r.rank for r in results if r.rank not in ended]
    failed = any(r.returncode for r in results if r.rank in ended)
    if (hung and not failed) or (check and (hung or failed)):
        tails = "\n".join(
            f"--- rank {r.rank}, exit code {r.returncode} ---\n{r.output[-6000:]}" for r in results
        )
        kind = f"ranks {hung} did not end in time" if hung else "a rank failed"
        raise AssertionError(f"{module} with {num_ranks} ranks: {kind}.\n{tails}")
    return results


def _wait(
    processes: Sequence[ForkServerProcess], started: float, timeout: float, grace: float
) -> dict[int, float]:
    """Waits for all; returns each ended rank's seconds since `started`."""
    ended: dict[int, float] = {}
    deadline = started + timeout
    while len(ended) < len(processes) and time.monotonic() < deadline:
        for rank, process in enumerate(processes):
            if rank not in ended and process.exitcode is not None:
                ended[rank] = time.monotonic() - started
                if process.exitcode:
                    deadline = min(deadline, time.monotonic() + grace)
        time.sleep(0.05)
    return ended
