"""Runs on clusters of several hosts that lose workers, hosts and links, and gain hosts."""

import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.distributed.hosts import Host, Network
from tests.distributed.ray import undisturbed
from tests.distributed.ray.undisturbed import assert_undisturbed

DRIVER = "tests.distributed.workers.on_hosts"
BIN = Path(sys.executable).parent
PORT = 6379
OBJECT_STORE_BYTES = 100 << 20

make_options = partial(undisturbed.make_options, launcher="ray")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


def start_ray(host: Host, head: Host | None = None, *, num_cpus: int = 1) -> None:
    """Makes a host the head of a cluster, or a node of the cluster of `head`, as launch/ does."""
    place = [f"--address={head.address}:{PORT}"] if head else ["--head", f"--port={PORT}"]
    options = [f"--num-cpus={num_cpus}", f"--object-store-memory={OBJECT_STORE_BYTES}"]
    host.run(
        [BIN / "ray", "start", *place, f"--node-ip-address={host.address}", *options],
        env={"RAY_health_check_failure_threshold": "3"},
    )


@contextmanager
def cluster_of(*names: str, folder: Path, num_cpus: int = 1):
    """Hosts by their names, with a node of Ray on each; the first is the head."""
    with Network(folder) as network:
        hosts = {name: network.add(name) for name in names}
        head, *others = hosts.values()
        start_ray(head, num_cpus=num_cpus)
        for host in others:
            start_ray(host, head, num_cpus=num_cpus)
        yield network, hosts


@contextmanager
def driver_on(host: Host, options: dict, pauses: list[int], folder: Path, *, num_bytes: int = 0):
    """A run, driven from a host; its driver keeps so many bytes in the object store."""
    log = folder / "driver.log"
    with log.open("w") as file:
        process = host.start(
            [
                *(sys.executable, "-m", DRIVER, json.dumps(options), json.dumps(pauses), folder),
                num_bytes,
            ],
            env={"RAY_ADDRESS": f"{host.address}:{PORT}"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()


def places_of_group(group: int, num_ranks: int, process, folder: Path, *, within: float = 150):
    """Where the ranks of a group are, once all of them wait."""
    notes = [folder / f"group-{group}-rank-{rank}" for rank in range(num_ranks)]
    deadline = time.monotonic() + within
    while not all(note.exists() for note in notes):
        assert process.poll() is None, (folder / "driver.log").read_text()
        assert time.monotonic() < deadline, (folder / "driver.log").read_text()
        time.sleep(0.2)
    return [json.loads(note.read_text()) for note in notes]


def assert_grown(log: Path) -> None:
    """The run's last group had two ranks, and went on from where one rank had come to."""
    groups = re.findall(r"over (\d) rank\(s\)(, going on after step [^0].*)?", log.read_text())
    assert [int(num_ranks) for num_ranks, _ in groups] == [2, 1, 2], log.read_text()
    assert all(goes_on for _, goes_on in groups[1:])


def test_a_killed_worker_and_a_cut_link_are_survived(folder, tmp_path):
    options = make_options(folder, "fixed", num_workers=2, num_shard_actors=2)
    with cluster_of("alpha", "beta", "gamma", folder=tmp_path) as (_, hosts):
        with driver_on(hosts["alpha"], options, [3, 7], tmp_path) as (process, log):
            places = places_of_group(0, 2, process, tmp_path)
            assert len({place["host"] for place in places}) == 2
            hosts[places[1]["host"]].run(["kill", "-KILL", places[1]["pid"]])
            places = places_of_group(1, 2, process, tmp_path)
            lost = next(place["host"] for place in places if place["host"] != "alpha")
            hosts[lost].cut()
            process.wait(timeout=200)
        assert process.returncode == 0, log.read_text()
    assert_undisturbed(folder, "fixed")


def test_an_elastic_run_loses_a_host_and_gains_one(folder, tmp_path):
    options = make_options(folder, "elastic", num_workers="1:2", num_shard_actors=2)
    with cluster_of("alpha", "beta", folder=tmp_path) as (network, hosts):
        with driver_on(hosts["alpha"], options, [3, 6], tmp_path) as (process, log):
            places = places_of_group(0, 2, process, tmp_path)
            assert {place["host"] for place in places} == {"alpha", "beta"}
            hosts["beta"].lose()
            [place] = places_of_group(1, 1, process, tmp_path)
            assert (place["host"], place["size"]) == ("alpha", 1)
            start_ray(network.add("gamma"), hosts["alpha"])
            process.wait(timeout=200)
        assert process.returncode == 0, log.read_text()
        assert_grown(log)
    assert_undisturbed(folder, "elastic")


def test_a_full_object_store_is_survived(folder, tmp_path):
    options = make_options(folder, "full", num_workers=2, num_shard_actors=2)
    more = OBJECT_STORE_BYTES + (20 << 20)
    with cluster_of("alpha", folder=tmp_path, num_cpus=2) as (_, hosts):
        with driver_on(hosts["alpha"], options, [], tmp_path, num_bytes=more) as (process, log):
            process.wait(timeout=150)
        assert process.returncode == 0, log.read_text()
    assert_undisturbed(folder, "full")


def test_a_run_that_may_not_fail_ends_soon_after_a_host_is_lost_and_names_it(folder, tmp_path):
    options = make_options(folder, "lost", num_workers=2, max_failures=0)
    with cluster_of("alpha", "beta", folder=tmp_path) as (_, hosts):
        with driver_on(hosts["alpha"], options, [3], tmp_path) as (process, log):
            places = places_of_group(0, 2, process, tmp_path)
            lost = [place["host"] for place in places].index("beta")
            hosts["beta"].lose()
            process.wait(timeout=90)
        assert process.returncode == 1
        assert f"rank {lost} on the node {hosts['beta'].address} was lost" in log.read_text()
