"""Runs on clusters of several hosts that are told that a host will be taken away."""

import json
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.files import list_checkpoints
from tests.distributed.hosts import Host
from tests.distributed.ray import test_hosts, undisturbed
from tests.distributed.ray.test_hosts import BIN, PORT, driver_on, places_of_group, start_ray
from tests.distributed.ray.undisturbed import assert_undisturbed

SECONDS_LEFT = 50
"""Until a host is taken away: short enough to leave it at once."""
SECONDS_OF_POLL = 5.0
"""Ray Train's own; how often it looks for nodes that are to be taken away."""

CPUS_OF_HOST = 4
"""Room for one worker and both shard actors, which begin on hosts of their own."""

make_options = partial(
    undisturbed.make_options,
    launcher="ray",
    cpus_per_worker=2.5,
    num_shard_actors=2,
    cpus_per_shard_actor=0.5,
    max_failures=0,
    checkpoint_every=0,
    checkpoint_minutes=60,
    log_every=1,
    keep_checkpoints=9,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@contextmanager
def cluster_of(*names: str, folder: Path):
    """The host alpha, which the driver has to itself, and others that take a worker each."""
    with test_hosts.cluster_of("alpha", folder=folder, num_cpus=0) as (network, hosts):

        def add(name: str) -> None:
            hosts[name] = network.add(name)
            start_ray(hosts[name], hosts["alpha"], num_cpus=CPUS_OF_HOST)

        for name in names:
            add(name)
        yield hosts, add


def drain(host: Host, head: Host) -> None:
    """Has Ray give notice that a host will be taken away."""
    address = f"{head.address}:{PORT}"
    reason = ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
    left = f"--deadline-remaining-seconds={SECONDS_LEFT}"
    host.run(
        [BIN / "ray", "drain-node", f"--address={address}", *reason, left],
        env={"RAY_ADDRESS": address},
    )


def wait_for_line(line: str, log: Path) -> None:
    deadline = time.monotonic() + SECONDS_LEFT
    while line not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def read_steps(folder: Path) -> list[tuple[int, int]]:
    """Which group of workers has trained which step, in order."""
    lines = (folder / "steps").read_text().splitlines()
    return [tuple(json.loads(line)) for line in lines]


def test_a_run_saves_itself_and_leaves_before_the_host_of_rank_zero_goes(folder, tmp_path):
    options = make_options(folder, "left", num_workers=2)
    with cluster_of("beta", "gamma", "delta", folder=tmp_path) as (hosts, add):
        with driver_on(hosts["alpha"], options, [3], tmp_path) as (process, log):
            places = [place["host"] for place in places_of_group(0, 2, process, tmp_path)]
            (idle,) = {"beta", "gamma", "delta"} - set(places)
            drain(hosts[idle], hosts["alpha"])
            time.sleep(SECONDS_OF_POLL + 2)
            assert read_steps(tmp_path) == [(0, 1), (0, 2), (0, 3)]  # The ranks still wait.
            add("epsilon")
            drain(hosts[places[0]], hosts["alpha"])
            wait_for_line("s: saved after step 4, to go on from there", log)
            assert list_checkpoints(LocalFolder(folder / "left")) == ["step-00000004"]
            hosts[places[0]].lose()
            process.wait(timeout=200)
        shown = log.read_text()
        assert process.returncode == 0, shown
        gone = f"the node {hosts[places[0]].address} is taken away"
    assert f"{gone} in " in shown
    assert f"started again on 2 worker(s), since {gone}\n" in shown
    assert read_steps(tmp_path) == [
        *((0, step) for step in range(1, 5)),
        *((1, step) for step in range(5, 11)),
    ]
    assert_undisturbed(folder, "left")


def test_an_elastic_run_leaves_a_host_and_gains_one(folder, tmp_path):
    options = make_options(folder, "shrunk", num_workers="1:2")
    with cluster_of("beta", "gamma", folder=tmp_path) as (hosts, add):
        with driver_on(hosts["alpha"], options, [3, 6], tmp_path) as (process, log):
            places = [place["host"] for place in places_of_group(0, 2, process, tmp_path)]
            # It leaves the cluster by itself, once no worker and no shard actor runs there.
            drain(hosts[places[1]], hosts["alpha"])
            [place] = places_of_group(1, 1, process, tmp_path)
            assert (place["host"], place["size"]) == (places[0], 1)
            add("delta")
            process.wait(timeout=200)
        assert process.returncode == 0, log.read_text()
        test_hosts.assert_grown(log)
    assert read_steps(tmp_path) == [
        *((0, step) for step in range(1, 5)),
        *((1, step) for step in range(5, 7)),
        *((2, step) for step in range(6, 11)),  # Growing takes up the last checkpoint, of step 5.
    ]
    assert_undisturbed(folder, "shrunk")
