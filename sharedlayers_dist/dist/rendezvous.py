"""Where ranks find each other: Horovod's own key-value server, and each rank's place.

`horovodrun` does this for the ranks that it starts. A program that starts ranks in another way, as
Ray does, serves a `Rendezvous` and gives each rank its environment before it calls `dist.init()`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType

from sharedlayers_dist.dist.horovod_library import explaining_import

with explaining_import("Ranks are to be started, but "):
    from horovod.runner.common.util.hosts import SlotInfo
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer


def assign_slots(host_of_rank: Sequence[str]) -> list[SlotInfo]:
    """Each rank's place among all ranks, on its host, and among the hosts.

    Args:
        host_of_rank: The host of each rank, in the order of the ranks; any names, one for each
            host. Ranks of one host need not follow each other.
    """
    slots: list[SlotInfo] = []
    for rank, host in enumerate(host_of_rank):
        local_rank = host_of_rank[:rank].count(host)
        # The hosts with that many ranks, in the order in which they come first.
        peers = [
            other for other in dict.fromkeys(host_of_rank) if host_of_rank.count(other) > local_rank
        ]
        slots.append(
            SlotInfo(
                hostname=host,
                rank=rank,
                local_rank=local_rank,
                cross_rank=peers.index(host),
                size=len(host_of_rank),
                local_size=host_of_rank.count(host),
                cross_size=len(peers),
            )
        )
    return slots


class Rendezvous:
    """Serves the rendezvous of one group of ranks until it is closed.

    Args:
        host_of_rank: The host of each rank, in the order of the ranks.
        address: The address of this machine to listen on, which all ranks must reach. Nothing
            listens on any other. Any program that reaches it can read and write the group's keys.

    Raises:
        OSError: when this machine cannot listen on that address.
    """

    def __init__(self, host_of_rank: Sequence[str], *, address: str) -> None:
        self.slots = assign_slots(host_of_rank)
        self._address = address
        self._server = RendezvousHTTPServer((address, 0), RendezvousHandler, 0)
        self._server.daemon_threads = True
        self._server.init(self.slots)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="rendezvous", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def environment(self, rank: int, *, interface: str) -> dict[str, str]:
        """Returns the variables that the process of a rank needs before `dist.init()`.

        Args:
            rank: Whose environment.
            interface: The network interface of the rank's host that the other ranks reach.
        """
        variables = create_slot_env_vars(self.slots[rank])
        variables |= create_run_env_vars(self._address, [interface], self.port)
        return {name: str(value) for name, value in variables.items()}

    def close(self) -> None:
        """Ends the server, its thread and its socket; a second call does nothing."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Rendezvous:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
