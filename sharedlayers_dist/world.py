"""Which of how many processes this is, and how it was started: plain values, passed in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from sharedlayers_dist.errors import CollectiveUserError, UserError

_LAUNCHERS = (
    # First the one that names the ranks of this project: it may itself have been started by one of
    # the others, and so may `mpirun`, which starts its daemons with srun. Each launcher's processes
    # inherit the variables of the launcher before.
    ("horovodrun or Ray", "HOROVOD_SIZE", "HOROVOD_RANK"),
    ("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("MVAPICH2", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("MPICH, Intel MPI or another one with PMI", "PMI_SIZE", "PMI_RANK"),
    # These two tell a process its index alone. They may have started their daemons with srun, too.
    ("a launcher with PMIx", "", "PMIX_RANK"),
    ("MPICH with -pmi-port", "", "PMI_ID"),
    # Not SLURM_NTASKS, which `sbatch` and `salloc` set for the one script that they start.
    ("Slurm's srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
"""Launchers, and the variables that hold the number of processes, if one does, and their index."""
_RAY_PROCESS = "RAY_RAYLET_PID"
"""Set by Ray in the processes that it starts, which inherit the variables of the srun that started
Ray itself on their node; these say nothing of them."""
_SLURMS_PMIX = "slurm."
"""How the names begin that Slurm gives PMIx (`srun --mpi=pmix`); its own variables say more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How this process was started, as its environment says, before it joins any other.

    `sharedlayers_dist.dist.init` checks that Horovod joins as many processes.

    Example:
        >>> mpirun = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}
        >>> Launch.detect(mpirun)
        Launch(rank=1, size=2, launcher='Open MPI', variable='OMPI_COMM_WORLD_SIZE')
        >>> print(Launch.detect({"PMIX_RANK": "1"}))
        processes started by a launcher with PMIx, which does not say how many (PMIX_RANK=1)
        >>> Launch.detect({})
        Launch(rank=0, size=1, launcher='', variable='')
    """

    rank: int = 0
    """Index of this process among those started together."""
    size: int = 1
    """Number of processes started together, over all hosts; 0 where their launcher does not say."""
    launcher: str = ""
    """The program that started them; empty if none is seen."""
    variable: str = ""
    """The environment variable that holds `size`, or `rank` where none holds `size`."""

    @classmethod
    def detect(cls, environment: Mapping[str, str] | None = None) -> Launch:
        """Reads the variables of the launchers that are known.

        Args:
            environment: Variables; None for those of this process.
        """
        environment = os.environ if environment is None else environment
        for launcher, size, rank in _LAUNCHERS:
            variable = size or rank
            if environment.get(variable, "").isdecimal() and _is_own(variable, environment):
                index = environment.get(rank, "")
                return cls(
                    rank=int(index) if index.isdecimal() else 0,
                    size=int(environment[size]) if size else 0,
                    launcher=launcher,
                    variable=variable,
                )
        return cls()

    @property
    def is_alone(self) -> bool:
        """Whether no other process was started together with this one."""
        return self.size == 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process speaks for all that were started together."""
        return self.rank == 0

    def __str__(self) -> str:
        if self.size == 0:
            return (
                f"processes started by {self.launcher}, which does not say how many "
                f"({self.variable}={self.rank})"
            )
        return f"{self.size} processes started by {self.launcher} ({self.variable}={self.size})"

    def require_one_process(self, received: str, remedy: str) -> None:
        """Refuses several processes where each would do the same work, and write the same files.

        Args:
            received: The request, e.g. `launcher='local'`.
            remedy: The way that works.

        Raises:
            CollectiveUserError: if several processes were started.
        """
        if not self.is_alone:
            raise CollectiveUserError(
                f"Only one process may do this. Received: {received}, {self}. {remedy} Unset "
                f"{self.variable} if they have nothing to do with each other."
            )


def _is_own(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether a variable was set for this process, and not for the one that started it."""
    if variable.startswith("SLURM"):
        return _RAY_PROCESS not in environment
    if variable == "PMIX_RANK":
        return not environment.get("PMIX_NAMESPACE", "").startswith(_SLURMS_PMIX)
    return True


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
    host_cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Cores that the host gives these processes."""

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

    @property
    def cores(self) -> int:
        """This process's share of its host's cores, at least 1."""
        return max(1, self.host_cores // self.local_size)
