"""`launch/cluster-local.yaml` for real: machines with sshd, and `ray up`, `submit` and `down`."""

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.distributed.hosts import Host, Network, make_ssh_key
from tests.distributed.launcher import REPOSITORY
from tests.distributed.ray.test_hosts import assert_grown, places_of_group
from tests.distributed.ray.undisturbed import assert_undisturbed, make_options
from tests.runs import as_arguments

LAUNCH = REPOSITORY / "launch"
DRIVER = REPOSITORY / "tests" / "distributed" / "workers" / "on_hosts.py"
WAIT_FOR_TWO_NODES = """
import time, ray
ray.init(log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(1)
"""
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def home(folder):
    """The home of a cluster's users, already set up: its hosts reach no package registry."""
    if not (shutil.which("sshd") and shutil.which("rsync")):
        pytest.skip("Clusters over ssh take sshd and rsync (Debian: openssh-server, rsync).")
    home = folder / "home"
    (home / "sharedlayers_dist").mkdir(parents=True)
    for name in ("launch", "sharedlayers_dist", "setup.py", "README.md"):
        command = ["cp", "-r", REPOSITORY / name, home / "sharedlayers_dist"]
        subprocess.run(command, check=True)
    subprocess.run([home / "sharedlayers_dist" / "launch" / "setup.sh"], check=True)
    return home


class SshCluster:
    """A cluster of machines with one home, and a laptop that only drives them.

    Args:
        network: Where the machines are added.
        home: The home of their users.
        folder: Where the cluster file is kept.
    """

    def __init__(self, network: Network, home: Path, folder: Path) -> None:
        self._network = network
        self._home = home
        self._file = folder / "cluster.yaml"
        self._laptop = network.add("laptop")
        self._key = self._laptop.home / "key"
        make_ssh_key(self._key)
        self._laptop.run([BIN / "ray", "get-auth-token", "--generate"])
        self.token = (self._laptop.home / ".ray" / "auth_token").read_text()

    def add(self, name: str) -> Host:
        """A machine that answers nobody until it is switched on."""
        return self._network.add(name, home=self._home)

    def switch_on(self, *hosts: Host) -> None:
        """Lets others log in."""
        for host in hosts:
            host.start_sshd(self._key)

    def up(self, head: Host, *workers: Host) -> None:
        """Starts the cluster: the head, which will start Ray on the others."""
        config = yaml.safe_load((LAUNCH / "cluster-local.yaml").read_text())
        addresses = [host.address for host in workers]
        config["provider"] |= {"head_ip": head.address, "worker_ips": addresses}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self._key)}
        self._file.write_text(yaml.safe_dump(config))
        self.ray("up", "--yes")

    def ray(self, command: str, *arguments: object) -> str:
        """Runs `ray COMMAND`, given its options, the cluster file and what comes after `--`."""
        with self.start_ray(command, *arguments, stdout=subprocess.PIPE) as process:
            output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        return output

    def start_ray(self, command: str, *arguments: object, stdout) -> subprocess.Popen[str]:
        """Starts what `ray` runs."""
        environment = {"PATH": f"{BIN}:/usr/bin:/bin:/usr/sbin", "RAY_USAGE_STATS_ENABLED": "0"}
        return self._laptop.start(
            [BIN / "ray", command, self._file, *arguments],
            env=environment,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )


@contextmanager
def cluster_over_ssh(home: Path, folder: Path) -> Iterator[SshCluster]:
    """An SshCluster without machines."""
    with Network(folder) as network:
        yield SshCluster(network, home, folder)


def processes_of_ray(host: Host) -> str:
    return host.run(["sh", "-c", "ps -C raylet,gcs_server -o args= || true"])


def test_ray_up_submit_job_and_down(folder, home, tmp_path):
    # A worker takes both CPUs of a host; the second host is started after the first.
    room = {"num_workers": 2, "cpus_per_worker": 2, "placement_seconds": 150}

    def arguments(name: str) -> list[str]:
        return as_arguments(make_options(folder, name) | room)

    with cluster_over_ssh(home, tmp_path) as cluster:
        alpha, beta = cluster.add("alpha"), cluster.add("beta")
        cluster.switch_on(alpha, beta)
        cluster.up(alpha, beta)
        shown = cluster.ray("submit", LAUNCH / "ray_train.py", "--", *arguments("submitted"))
        assert "over 2 rank(s)" in shown
        assert_undisturbed(folder, "submitted")
        assert cluster.token not in shown
        for path in (folder / "submitted").rglob("*"):
            assert path.is_dir() or cluster.token.encode() not in path.read_bytes()
        shown = alpha.run(
            [
                *(BIN / "ray", "job", "submit", "--address=http://127.0.0.1:8265"),
                *("--working-dir=.", "--", "python", "launch/ray_train.py", *arguments("job")),
            ],
            env={"PATH": f"{BIN}:/usr/bin:/bin", "RAY_AUTH_MODE": "token"},
            timeout=240,
        )
        assert "over 2 rank(s)" in shown
        assert_undisturbed(folder, "job")
        assert "without its token" in beta.run(
            [
                BIN / "python",
                "-c",
                "import ray\n"
                f"try: ray.init('{alpha.address}:6379', logging_level='ERROR')\n"
                "except Exception: print('nobody joins without its token')\n",
            ],
            env={"RAY_AUTH_MODE": "disabled"},
        )
        assert processes_of_ray(alpha) != ""
        assert processes_of_ray(beta) != ""
        cluster.ray("down", "--yes")
        assert processes_of_ray(alpha) == ""
        # Ray down may not know of the other nodes, which end by themselves without their head.
        deadline = time.monotonic() + 120
        while processes_of_ray(beta):
            assert time.monotonic() < deadline
            time.sleep(1)


def test_a_submitted_elastic_run_loses_a_machine_and_gains_one(folder, home, tmp_path):
    options = make_options(
        folder,
        "elastic-submitted",
        launcher="ray",
        num_workers="1:2",
        cpus_per_worker=2,
        num_shard_actors=2,
        placement_seconds=150,
    )
    with cluster_over_ssh(home, tmp_path) as cluster:
        alpha, beta, gamma = (cluster.add(name) for name in ("alpha", "beta", "gamma"))
        cluster.switch_on(alpha, beta)
        cluster.up(alpha, beta, gamma)
        alpha.run([BIN / "python", "-c", WAIT_FOR_TWO_NODES])
        arguments = map(shlex.quote, [json.dumps(options), json.dumps([3, 6]), str(tmp_path)])
        log = tmp_path / "driver.log"
        with (
            log.open("w") as file,
            cluster.start_ray("submit", DRIVER, "--", *arguments, stdout=file) as run,
        ):
            places = places_of_group(0, 2, run, tmp_path)
            assert {place["host"] for place in places} == {"alpha", "beta"}
            beta.lose()
            [place] = places_of_group(1, 1, run, tmp_path)
            assert (place["host"], place["size"]) == ("alpha", 1)
            cluster.switch_on(gamma)
            run.wait(timeout=240)
        assert run.returncode == 0, log.read_text()
        assert_grown(log)
    assert_undisturbed(folder, "elastic-submitted")
