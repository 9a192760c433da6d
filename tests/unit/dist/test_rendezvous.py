"""Each rank's place, as Horovod's own launcher assigns it."""

import pytest
from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts

from sharedlayers_dist.dist import Rendezvous
from sharedlayers_dist.dist.rendezvous import assign_slots


@pytest.mark.parametrize("hosts", ["a:1", "a:3", "a:2,b:2", "a:3,b:1,c:2"])
def test_places_are_those_of_horovods_own_launcher(hosts):
    parsed = parse_hosts(hosts)
    host_of_rank = [host.hostname for host in parsed for _ in range(host.slots)]
    assert assign_slots(host_of_rank) == get_host_assignments(parsed, len(host_of_rank))


def test_ranks_of_a_host_need_not_follow_each_other():
    slots = assign_slots(["a", "b", "a", "c", "a", "b"])
    assert [(s.local_rank, s.local_size) for s in slots] == [
        (0, 3),
        (0, 2),
        (1, 3),
        (0, 1),
        (2, 3),
        (1, 2),
    ]
    assert [(s.cross_rank, s.cross_size) for s in slots] == [
        (0, 3),
        (1, 3),
        (0, 2),
        (2, 3),
        (0, 1),
        (1, 2),
    ]


def test_a_closed_rendezvous_gives_its_port_back():
    with Rendezvous(["here"], address="127.0.0.1") as server:
        port = server.port
        assert server.environment(0, interface="lo")["HOROVOD_GLOO_RENDEZVOUS_PORT"] == str(port)
        assert server._server.server_address[0] == "127.0.0.1"
    assert server._server.socket.fileno() == -1
