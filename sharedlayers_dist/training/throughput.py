"""How fast a run is, and what it waits for."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping

from sharedlayers_dist.dist import Collectives


class ThroughputMeter:
    """Pairs per second, and the shares of the time spent waiting, since the last restart.

    Args:
        read_waits: Seconds this rank has waited so far, by what it waited for.
        collectives: Adds up the pairs of all ranks; every rank calls `read` at the same time.
        clock: Seconds that never go back; passed in so that tests need not wait.
    """

    def __init__(
        self,
        read_waits: Callable[[], Mapping[str, float]],
        collectives: Collectives,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._read_waits = read_waits
        self._collectives = collectives
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Begins a new interval."""
        self._began = self._clock()
        self._pairs = 0
        self._waits = self._read_waits()

    def add(self, pairs: int) -> None:
        """Counts this rank's usable pairs of one step."""
        self._pairs += pairs

    def read(self) -> dict[str, float]:
        """Figures of the interval so far.

        `pairs_per_second` over all ranks; of this rank `X_wait_share` (0 to 1) for each X that is
        waited for, and `peak_memory_mb`, in units of 10^6 bytes since the process began.
        """
        seconds = max(self._clock() - self._began, 1e-9)
        (pairs,) = self._collectives.sum([self._pairs])
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        shares = {
            f"{name}_wait_share": min((waited - self._waits[name]) / seconds, 1.0)
            for name, waited in self._read_waits().items()
        }
        return {
            "pairs_per_second": pairs / seconds,
            **shares,
            "peak_memory_mb": kilobytes * 1024 / 1e6,
        }
