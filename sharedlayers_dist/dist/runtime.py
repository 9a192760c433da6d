"""Joining the run: which rank this is, and what Horovod must be able to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import tensorflow as tf

from sharedlayers_dist.dist.gpus import pin_gpu, require_any_gpu
from sharedlayers_dist.dist.horovod_library import import_horovod
from sharedlayers_dist.dist.stall import StallWatch
from sharedlayers_dist.dist.threads import share_cores
from sharedlayers_dist.errors import CollectiveUserError, SetupError, UserError
from sharedlayers_dist.world import Launch, World

STALL_LIMIT_SECONDS = 100
"""How long a collective waits for a rank that does not come, before every rank gets an error."""

_world: World | None = None
_horovod: ModuleType | None = None
_stall_watch: StallWatch | None = None
_chosen: dict[str, Any] = {}
"""The arguments of the call of `init` that joined the run."""


def init(
    *,
    require_gpu: bool = False,
    require_nccl: bool = False,
    stall_limit_seconds: int | None = None,
    process_sets: Any = None,
) -> World:
    """Joins the run that a launcher started; call it before anything uses a GPU.

    Called again it returns the same place, after it has checked what this call asks for.

    Without a launcher, or with one rank, this is a single process, Horovod need not be installed,
    and everything else in this package does nothing.

    Each rank takes one GPU, that of its local rank, and lets its memory grow; and ranks of one host
    share its cores out, where the environment does not say how many threads they have.

    Args:
        require_gpu: Whether a rank without a GPU is an error.
        require_nccl: Whether a Horovod that cannot reduce over NCCL is an error.
        stall_limit_seconds: How long a step, or a callback that compares or adds up, waits for a
            rank that does not come before all ranks get an error; None for 100, or for what the
            first call chose. `HOROVOD_STALL_SHUTDOWN_TIME_SECONDS` in the environment wins over it;
            0 there means for ever. It must be longer than anything that one rank does alone while
            the others wait, such as writing a checkpoint.
        process_sets: Handed on to `horovod.tensorflow.init`.

    Returns:
        This process's place among all.

    Raises:
        UserError: if `stall_limit_seconds` is less than 2, or another call chose other values; on
            all processes, if Horovod joins another number of them than were started.
        SetupError: if Horovod or something asked for is missing; the message names it.
    """
    global _world, _chosen
    if stall_limit_seconds is not None and stall_limit_seconds < 2:
        raise UserError(
            "`stall_limit_seconds` must be at least 2. Received: "
            f"stall_limit_seconds={stall_limit_seconds}."
        )
    asked = {"stall_limit_seconds": stall_limit_seconds, "process_sets": process_sets}
    if _world is not None:
        if _world.size > 1:
            _require_same_choices(asked)
        if require_gpu:
            require_any_gpu(tf.config.list_physical_devices("GPU"))
        if require_nccl and _horovod is not None:
            _require_nccl(_horovod)
        return _world
    launch = Launch.detect()
    if not launch.is_alone:
        limit = STALL_LIMIT_SECONDS if stall_limit_seconds is None else stall_limit_seconds
        _world = _join(launch, require_gpu, require_nccl, limit, process_sets)
        _chosen = asked | {"stall_limit_seconds": limit}
        return _world
    if require_gpu:
        require_any_gpu(tf.config.list_physical_devices("GPU"))
    _world = World()
    return _world


def _join(
    launch: Launch, require_gpu: bool, require_nccl: bool, stall_limit: int, process_sets: Any
) -> World:
    """Starts Horovod and takes this rank's GPU; see `init`."""
    global _horovod, _stall_watch
    horovod = import_horovod()
    _require_own_name()
    if require_nccl:
        _require_nccl(horovod)
    os.environ.setdefault("HOROVOD_STALL_CHECK_TIME_SECONDS", str(max(1, stall_limit // 2)))
    os.environ.setdefault("HOROVOD_STALL_SHUTDOWN_TIME_SECONDS", str(stall_limit))
    limit = int(os.environ["HOROVOD_STALL_SHUTDOWN_TIME_SECONDS"])
    horovod.init(process_sets=process_sets)
    _require_all_processes(horovod, launch)
    world = World(
        rank=horovod.rank(),
        size=horovod.size(),
        local_rank=horovod.local_rank(),
        local_size=horovod.local_size(),
    )
    share_cores(world)
    pin_gpu(world, require_gpu)
    _horovod = horovod
    if limit > 0:
        _stall_watch = StallWatch(limit, horovod.shutdown)
    return world


def _require_same_choices(asked: Mapping[str, Any]) -> None:
    """Raises UserError if a later call of `init` asks for what the first did not choose."""
    for name, value in asked.items():
        if value is not None and value != _chosen[name]:
            raise UserError(
                f"`{name}` is chosen by the first call of init(), which has joined the run. "
                f"Received: {name}={value!r}, after {name}={_chosen[name]!r}. Give it in the first "
                "call."
            )


def _require_nccl(horovod: ModuleType) -> None:
    """Raises SetupError if Horovod cannot reduce over NCCL."""
    if not horovod.nccl_built():
        raise SetupError(
            "NCCL was asked for, but this Horovod was built without it. Received: "
            "require_nccl=True. Build it with `launch/setup.sh --gpu`."
        )


def shutdown() -> None:
    """Leaves the run; `init` may join another one afterwards."""
    global _world, _horovod, _stall_watch, _chosen
    if _stall_watch is not None:
        _stall_watch.close()
    if _horovod is not None:
        _horovod.shutdown()
    _world, _horovod, _stall_watch, _chosen = None, None, None, {}


def world() -> World:
    """Returns this process's place; a single process needs no `init` before it.

    Raises:
        RuntimeError: if several ranks were launched and `init` has not been called: without it
            each rank would train alone, and nothing would say so.
    """
    if _world is not None:
        return _world
    launch = Launch.detect()
    if not launch.is_alone:
        raise RuntimeError(
            "Several ranks were started, so `sharedlayers_dist.dist.init()` must be called before "
            f"anything else of `dist`. Received: {launch}, no call of init()."
        )
    return World()


def rank() -> int:
    """Returns this process's index among all."""
    return world().rank


def size() -> int:
    """Returns the number of processes."""
    return world().size


def horovod_module() -> ModuleType:
    """Returns `horovod.tensorflow`; only to be asked for when there are several ranks."""
    if _horovod is None:
        raise RuntimeError("Horovod is not running. Call `sharedlayers_dist.dist.init()` first.")
    return _horovod


def watch_exchange() -> AbstractContextManager[None]:
    """Watches that an exchange outside of any graph does not wait for ever.

    Steps are watched without it. It is for where all ranks come at about the same time.
    """
    return nullcontext() if _stall_watch is None else _stall_watch.watch_exchange()


def explain_stall() -> AbstractContextManager[None]:
    """Says so where a step within failed because a rank did not come."""
    return nullcontext() if _stall_watch is None else _stall_watch.explain()


def _require_all_processes(horovod: ModuleType, launch: Launch) -> None:
    """Raises CollectiveUserError where Horovod did not join all processes to one another.

    A Horovod without MPI sees none of the processes that `mpirun` or `srun` starts: each would be
    a rank zero of its own, train alone, and write the same files as the others.
    """
    size = horovod.size()
    if size == launch.size or (size > 1 and launch.size == 0):
        return
    horovod.shutdown()
    mpi = "" if horovod.mpi_built() else " It was built without MPI."
    raise CollectiveUserError(
        "Horovod must join all processes that were started together. Received: "
        f"horovod.size()={size}, {launch}.{mpi} Start them with `horovodrun -np "
        f"{launch.size or 'N'} ...`, or unset {launch.variable} if this is one process."
    )


def _require_own_name() -> None:
    """Raises SetupError where Gloo would end the process: it looks up this host's own name."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError as e:
        raise SetupError(
            f"Horovod looks up the name of its own host, and crashes if it finds none. Received: "
            f"hostname={name!r}. Add a line `127.0.1.1 {name}` to /etc/hosts."
        ) from e
