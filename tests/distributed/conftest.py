"""A Ray cluster for those tests that need no dashboard."""

import pytest
import ray

from tests.distributed.launcher import SAME_ARITHMETIC


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
