"""The scripts that start ranks and clusters on hosts: `horovodrun` over ssh, and Slurm."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.distributed.hosts import Host, Network, make_ssh_key
from tests.distributed.launcher import REPOSITORY
from tests.distributed.ray.undisturbed import assert_undisturbed, make_options
from tests.runs import as_arguments

LAUNCH = REPOSITORY / "launch"


def arguments(folder: Path, name: str, **options) -> list[str]:
    return as_arguments(make_options(folder, name, **options))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_horovodrun_over_two_hosts(folder, tmp_path):
    if shutil.which("sshd") is None:
        pytest.skip("Hosts that are logged in to take sshd (Debian: openssh-server).")
    with Network(tmp_path) as network:
        home = tmp_path / "home"
        alpha, beta = (network.add(name, home=home) for name in ("alpha", "beta"))
        key = home / "key"
        make_ssh_key(key)
        for host in (alpha, beta):
            host.start_sshd(key)
        shown = alpha.run(
            [LAUNCH / "horovodrun_hosts.sh", "alpha:1,beta:1", *arguments(folder, "hosts")],
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
        files |= {kind: Path("/run/munge") / kind for kind in ("pid", "seed")}
        host.run(["munged", "--force", *(f"--{k}-file={v}" for k, v in files.items())])
    head.run(["slurmctld", "-f", config])
    for host in (head, other):
        host.run(["slurmd", "-f", config, "-N", host.name], env=environment)
    return environment


def wait_for_file(path: Path, *, while_running: subprocess.Popen, seconds: float = 120.0):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline
        assert while_running.poll() is None
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_slurm_gives_each_job_a_cluster(folder, tmp_path):
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        pytest.skip("Jobs of Slurm take Slurm and Munge (Debian: slurmctld, slurmd, munge).")
    before = set(os.listdir(REPOSITORY))
    with Network(tmp_path) as network:
        alpha, beta = (network.add(name, home=tmp_path / "home") for name in ("alpha", "beta"))
        environment = start_slurm(alpha, beta, tmp_path)

        def submit(log: Path, *options: str):
            command = ["sbatch", "--wait", "--nodes=2", "--cpus-per-task=1", f"--output={log}"]
            return alpha.start(
                [*command, LAUNCH / "slurm_ray.sh", *options, "--num-workers=2"], env=environment
            )

        job = submit(tmp_path / "done.log", *arguments(folder, "slurm"))
        assert job.wait(timeout=150) == 0, (tmp_path / "done.log").read_text()
        assert "over 2 rank(s)" in (tmp_path / "done.log").read_text()
        assert_undisturbed(folder, "slurm")

        metrics = folder / "stopped" / "metrics.jsonl"
        options = [*arguments(folder, "stopped", epochs=400), "--log-every=1"]
        job = submit(tmp_path / "stopped.log", *options)
        wait_for_file(metrics, while_running=job)
        alpha.run(["scancel", "--batch", "--signal=TERM", "2"], env=environment)
        assert job.wait(timeout=90) == 75, (tmp_path / "stopped.log").read_text()
        assert "It has saved itself after step" in (tmp_path / "stopped.log").read_text()
    assert set(os.listdir(REPOSITORY)) <= before | {".pytest_cache"}  # No token is left.
