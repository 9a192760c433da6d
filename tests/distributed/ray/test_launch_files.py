"""The files that start clusters: as their schemas want them, and tried on hosts of a test's own."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.distributed.hosts import Host, Network, make_ssh_key, skip_without_namespaces
from tests.distributed.launcher import REPOSITORY, run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.distributed.test_training import assert_same_tensors

LAUNCH = REPOSITORY / "launch"
BIN = Path(sys.executable).parent


def read_yaml(name: str):
    return yaml.safe_load((LAUNCH / name).read_text())


@pytest.mark.parametrize("name", ["cluster-local.yaml", "cluster-aws.yaml"])
def test_cluster_files_are_as_rays_schema_wants_them(name):
    config = read_yaml(name)
    validate_config(prepare_config(config))
    mounted = [REPOSITORY / source for source in config["file_mounts"].values() if source[0] != "~"]
    assert all(path.exists() for path in mounted)
    starts = [config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker")]
    assert all("RAY_AUTH_MODE=token" in command for command in starts)


def test_the_pods_of_the_rayjob_are_as_kubernetes_wants_them():
    job = read_yaml("kuberay-rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.31", strict=True)


@pytest.mark.parametrize("name", ["slurm_ray.sh", "horovodrun_hosts.sh"])
def test_scripts_can_be_parsed(name):
    subprocess.run(["bash", "-n", LAUNCH / name], check=True)


@pytest.mark.parametrize("hosts", ["", "host1", "host1:0", "host1:2,", "host1:2 host2:2"])
def test_hosts_that_cannot_be_read_are_refused(hosts):
    ended = subprocess.run(
        [LAUNCH / "horovodrun_hosts.sh", hosts], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert f"must be given as HOST:RANKS,... Received: '{hosts}'" in ended.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs, and what one process learns from them."""
    skip_without_namespaces()
    if not (shutil.which("sshd") and shutil.which("rsync")):
        pytest.skip("Clusters over ssh take sshd and rsync (Debian: openssh-server, rsync).")
    folder = tmp_path_factory.mktemp("launch")
    write_text_pairs(folder / "train", 50)
    run_ranks("sharedlayers_dist", 1, "train", *make_options(folder, "one"))
    return folder


def make_options(folder: Path, name: str, *, epochs: int = 2) -> list[str]:
    return [
        f"--pairs={folder / 'train'}",
        f"--output={folder / name}",
        f"--epochs={epochs}",
        "--batch-size=12",
        "--learning-rate=0.01",
        "--head=absolute_difference",
    ]


def assert_undisturbed(folder: Path, name: str) -> None:
    for part in ("model", "optimizer", "metrics"):
        assert_same_tensors(folder / name, folder / "one", part)


def processes_of_ray(host: Host) -> str:
    return host.run(["sh", "-c", "ps -C raylet,gcs_server -o args= || true"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_up_submit_and_down_over_ssh(folder, tmp_path):
    """Two machines with one home, and a third that only drives them."""
    home = tmp_path / "home"
    (home / "sharedlayers_dist").mkdir(parents=True)
    for name in ("launch", "sharedlayers_dist", "setup.py", "README.md"):
        command = ["cp", "-r", REPOSITORY / name, home / "sharedlayers_dist"]
        subprocess.run(command, check=True)
    # The hosts reach no package registry, so the one set-up of both is made from here.
    subprocess.run([home / "sharedlayers_dist" / "launch" / "setup.sh"], check=True)
    with Network(tmp_path) as network:
        alpha, beta = (network.add(name, home=home) for name in ("alpha", "beta"))
        laptop = network.add("laptop")
        key = laptop.home / "key"
        make_ssh_key(key)
        for host in (alpha, beta):
            host.start_sshd(key)
        laptop.run([BIN / "ray", "get-auth-token", "--generate"])
        token = (laptop.home / ".ray" / "auth_token").read_text()
        config = read_yaml("cluster-local.yaml")
        config["provider"] |= {"head_ip": alpha.address, "worker_ips": [beta.address]}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump(config))
        environment = {"PATH": f"{BIN}:/usr/bin:/bin:/usr/sbin", "RAY_USAGE_STATS_ENABLED": "0"}

        def ray(*arguments: object, timeout: float = 240) -> str:
            return laptop.run([BIN / "ray", *arguments], env=environment, timeout=timeout)

        ray("up", "--yes", file)
        script = LAUNCH / "ray_train.py"
        shown = ray(
            *("submit", file, script, "--", *make_options(folder, "submitted")),
            # A worker takes the two CPUs of a host; the second host is started after the first.
            *("--num-workers=2", "--cpus-per-worker=2", "--placement-seconds=150"),
        )
        assert "over 2 rank(s)" in shown
        assert_undisturbed(folder, "submitted")
        assert token not in shown
        for path in (folder / "submitted").rglob("*"):
            assert path.is_dir() or token.encode() not in path.read_bytes()
        shown = alpha.run(
            [
                *(BIN / "ray", "job", "submit", "--address=http://127.0.0.1:8265"),
                *("--working-dir=.", "--", "python", "launch/ray_train.py"),
                *(*make_options(folder, "job"), "--num-workers=2", "--cpus-per-worker=2"),
            ],
            env=environment | {"RAY_AUTH_MODE": "token"},
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
        ray("down", "--yes", file)
        assert processes_of_ray(alpha) == ""
        # Ray down may not know of the other nodes, which end by themselves without their head.
        deadline = time.monotonic() + 120
        while processes_of_ray(beta):
            assert time.monotonic() < deadline
            time.sleep(1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_horovodrun_over_two_hosts(folder, tmp_path):
    with Network(tmp_path) as network:
        home = tmp_path / "home"
        alpha, beta = (network.add(name, home=home) for name in ("alpha", "beta"))
        key = home / "key"
        make_ssh_key(key)
        for host in (alpha, beta):
            host.start_sshd(key)
        shown = alpha.run(
            [LAUNCH / "horovodrun_hosts.sh", "alpha:1,beta:1", *make_options(folder, "hosts")],
            env={"HOROVODRUN_OPTIONS": f"--ssh-identity-file {key}"},
            timeout=200,
        )
    assert "over 2 rank(s)" in shown
    assert_undisturbed(folder, "hosts")


SLURM_CONF = """
ClusterName=test
SlurmctldHost=alpha
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
ReturnToService=2
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
NodeName=alpha,beta CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def start_slurm(head: Host, other: Host, folder: Path) -> dict[str, str]:
    """Starts Slurm on two hosts; returns what its commands need in their environment."""
    config = folder / "slurm.conf"
    config.write_text(SLURM_CONF.format(folder=folder))
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    environment = {"SLURM_CONF": str(config)}
    for host in (head, other):
        host.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
        host.run(["mkdir", "-m", "755", "/run/munge"])
        files = {"key": key, "log": folder / f"munge-{host.name}.log"}
        files |= {kind: f"/run/munge/{kind}" for kind in ("pid", "seed")}
        host.run(["munged", "--force", *(f"--{k}-file={v}" for k, v in files.items())])
    head.run(["slurmctld", "-f", config])
    for host in (head, other):
        host.run(["slurmd", "-f", config, "-N", host.name], env=environment)
    return environment


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_slurm_gives_each_job_a_cluster(folder, tmp_path):
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        pytest.skip("Jobs of Slurm take Slurm and Munge (Debian: slurmctld, slurmd, munge).")
    with Network(tmp_path) as network:
        alpha, beta = (network.add(name, home=tmp_path / "home") for name in ("alpha", "beta"))
        environment = start_slurm(alpha, beta, tmp_path)

        def submit(log: Path, *options: str):
            command = ["sbatch", "--wait", "--nodes=2", "--cpus-per-task=1", f"--output={log}"]
            return alpha.start(
                [*command, LAUNCH / "slurm_ray.sh", *options, "--num-workers=2"], env=environment
            )

        job = submit(tmp_path / "done.log", *make_options(folder, "slurm"))
        assert job.wait(timeout=150) == 0, (tmp_path / "done.log").read_text()
        assert "over 2 rank(s)" in (tmp_path / "done.log").read_text()
        assert_undisturbed(folder, "slurm")

        metrics = folder / "stopped" / "metrics.jsonl"
        options = [*make_options(folder, "stopped", epochs=400), "--log-every=1"]
        job = submit(tmp_path / "stopped.log", *options)
        deadline = time.monotonic() + 120
        while not metrics.exists():
            assert time.monotonic() < deadline
            assert job.poll() is None
            time.sleep(0.5)
        alpha.run(["scancel", "--batch", "--signal=TERM", "2"], env=environment)
        assert job.wait(timeout=90) == 75, (tmp_path / "stopped.log").read_text()
        assert "It has saved itself after step" in (tmp_path / "stopped.log").read_text()
    assert not list(REPOSITORY.glob(".ray-token-*"))
