"""Settings of all tests, and what several of them start."""

import pytest
from hypothesis import settings

from tests.object_store import serve_objects

# How long an example takes depends on who else uses the machine.
settings.register_profile("short", deadline=None)
# The long form of the property tests: pytest --hypothesis-profile=long.
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile("short")


@pytest.fixture(scope="session")
def object_store(tmp_path_factory):
    """Address of an S3 server that ends with the tests."""
    with serve_objects(tmp_path_factory.mktemp("s3") / "log") as (address, _):
        yield address
