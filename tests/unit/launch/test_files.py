"""The files that start clusters are as their schemas want them; the scripts can be parsed."""

import subprocess

import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.distributed.launcher import REPOSITORY

LAUNCH = REPOSITORY / "launch"


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
