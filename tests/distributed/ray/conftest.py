"""What the tests of Ray share: a cluster for those that need no dashboard, and a run to compare."""

import pytest
import ray

from tests.distributed.hosts import skip_without_namespaces
from tests.distributed.launcher import SAME_ARITHMETIC
from tests.distributed.ray.undisturbed import train_undisturbed


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory):
    """A local cluster with eight CPUs to give away, which ends with the tests."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in SAME_ARITHMETIC.items():
            environment.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=8,
            include_dashboard=False,
            log_to_driver=False,
            namespace="tests-of-shards",
            configure_logging=False,
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Pairs, and what one process learns from them; runs on hosts of a test's own go here too."""
    skip_without_namespaces()
    folder = tmp_path_factory.mktemp("hosts")
    train_undisturbed(folder)
    return folder
