"""Which of how many processes this is: plain values, passed in, never asked for."""

from __future__ import annotations

from dataclasses import dataclass

from sharedlayers_dist.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """One process's place among all processes of a training run.

    The default is a single process. `sharedlayers_dist.dist.init` returns the real one.
    """

    rank: int = 0
    """Index of this process among all, from 0 to `size - 1`."""
    size: int = 1
    """Number of processes over all hosts."""
    local_rank: int = 0
    """Index of this process among those on its host; the index of its GPU."""
    local_size: int = 1
    """Number of processes on this host."""

    def __post_init__(self) -> None:
        """Checks that both indices lie within their counts."""
        if not 0 <= self.rank < self.size or not 0 <= self.local_rank < self.local_size:
            raise UserError(
                "A rank must lie between 0 and the number of ranks. Received: "
                f"rank={self.rank}, size={self.size}, local_rank={self.local_rank}, "
                f"local_size={self.local_size}."
            )

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the one process that writes files and shows progress."""
        return self.rank == 0
