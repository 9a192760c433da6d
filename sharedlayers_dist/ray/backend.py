"""Horovod as a backend of Ray Train: for anyone's train function, with or without this project.

Ray Train places the workers, watches them and starts them again. It does not know Horovod: the rank
of each worker, where the ranks find each other, and the network interface that they talk over.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import ray
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.execution.worker_group import ExecutionGroup

from sharedlayers_dist.dist import Rendezvous
from sharedlayers_dist.errors import UserError

CONNECT_SECONDS = "HOROVOD_GLOO_TIMEOUT_SECONDS"
"""Horovod's variable for how long a rank waits for the others to join."""
_RESTARTS = "SHAREDLAYERS_DIST_RESTARTS"
_LOOPBACK = "127.0.0.1"


@dataclass
class HorovodConfig(BackendConfig):
    """Makes the workers of a Ray Train V2 trainer the ranks of one Horovod group.

    Give it to `ray.train.v2.api.data_parallel_trainer.DataParallelTrainer` as `backend_config`. The
    train function then calls `sharedlayers_dist.dist.init()`, or Horovod's own `init()`. Worker
    `r` of Ray is rank `r` of Horovod, and local ranks are counted within a node. After a failure,
    or when an elastic group changes its size, the new workers form a new group.

    Ranks reduce over Gloo, and over NCCL where Horovod was built with it and workers have GPUs. If
    all workers are on the driver's node, Horovod listens on the loopback interface alone.
    """

    interface: str = ""
    """Network interface that the nodes reach each other by, the same name on all of them; empty
    for the one that has the address under which Ray knows the node."""
    connect_seconds: int = 100
    """How long a rank waits for the others to join."""

    def __post_init__(self) -> None:
        """Checks what can be checked without a cluster."""
        if self.connect_seconds < 1:
            raise UserError(
                "`connect_seconds` must be at least 1. Received: "
                f"connect_seconds={self.connect_seconds}."
            )

    @property
    def backend_cls(self) -> type[HorovodBackend]:
        """What Ray Train calls at the start and the end of each group of workers."""
        return HorovodBackend

    def to_dict(self) -> dict[str, Any]:
        """The fields, for Ray's dashboard."""
        return asdict(self)


class HorovodBackend(Backend):
    """Serves the rendezvous of a group of workers as long as the group lives.

    Ray Train calls it in the process that controls the run, which is on the driver's node.
    """

    def __init__(self) -> None:
        self._rendezvous: Rendezvous | None = None
        self._num_starts = 0

    def on_start(self, worker_group: ExecutionGroup, backend_config: BackendConfig) -> None:
        """Gives each worker its place among the ranks.

        Raises:
            UserError: for a node without the interface asked for.
        """
        if not isinstance(backend_config, HorovodConfig):
            raise TypeError(f"A HorovodConfig is needed. Received: {backend_config!r}.")
        self._close()
        nodes = [worker.metadata.node_ip for worker in worker_group.get_workers()]
        own = ray.util.get_node_ip_address()
        is_one_node = set(nodes) == {own}
        self._rendezvous = Rendezvous(nodes, address=_LOOPBACK if is_one_node else own)
        addresses = [_LOOPBACK if is_one_node else node for node in nodes]
        interfaces = ray.get(
            [
                worker_group.execute_single_async(
                    rank, find_interface, address, backend_config.interface
                )
                for rank, address in enumerate(addresses)
            ]
        )
        common = {
            CONNECT_SECONDS: str(backend_config.connect_seconds),
            _RESTARTS: str(self._num_starts),
        }
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    set_environment,
                    self._rendezvous.environment(rank, interface=interface)
                    | common
                    | ({} if is_one_node else {"NCCL_SOCKET_IFNAME": interface}),
                )
                for rank, interface in enumerate(interfaces)
            ]
        )
        self._num_starts += 1

    def on_shutdown(self, worker_group: ExecutionGroup, backend_config: BackendConfig) -> None:
        """Ends the rendezvous; the ranks end with their processes."""
        self._close()

    def _close(self) -> None:
        if self._rendezvous is not None:
            self._rendezvous.close()
            self._rendezvous = None


def set_environment(variables: dict[str, str]) -> None:
    """Puts variables into this process's environment."""
    os.environ.update(variables)


def find_interface(address: str, wanted: str = "") -> str:
    """The network interface of this machine that has `address`, or `wanted` if it is there.

    Raises:
        UserError: when there is none.
    """
    addresses = {name: {a.address for a in has} for name, has in psutil.net_if_addrs().items()}
    if wanted and wanted in addresses:
        return wanted
    found = [name for name, has in addresses.items() if address in has and not wanted]
    if not found:
        raise UserError(
            "Every node needs the network interface that the ranks talk over. Received: "
            f"interface={wanted!r} on the node {address}, which has {', '.join(addresses)}. Give "
            "HorovodConfig(interface=...) one of these."
        )
    return found[0]


def num_restarts() -> int:
    """How often Ray Train has started the workers again; to be asked in a train function."""
    return int(os.environ.get(_RESTARTS, "0"))
