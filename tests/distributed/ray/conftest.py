"""A run that those on clusters are compared with."""

import pytest

from tests.distributed.hosts import skip_without_namespaces
from tests.distributed.ray.undisturbed import train_undisturbed


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Pairs, and what one process learns from them; runs on hosts of a test's own go here too."""
    skip_without_namespaces()
    folder = tmp_path_factory.mktemp("hosts")
    train_undisturbed(folder)
    return folder
