"""A dataset on S3: a real server on this machine, asked through pyarrow's own client."""

import pytest
from pyarrow import fs

from tests.object_store import make_bucket, make_uri
from tests.unit.data.samples import write_dataset

ITEMS = "text,who\n" + "".join(f"text {i} of {i % 9},{i % 9}\n" for i in range(99))


@pytest.fixture(scope="session")
def bucket(object_store, tmp_path_factory):
    """The URI of a dataset of two files on S3; beside its folder lies items.csv."""
    local = write_dataset(tmp_path_factory.mktemp("local"), [[7, 5], [9]], alphabet="ab0123456789")
    store = make_bucket("pairs", object_store)
    fs.copy_files(local, "pairs/train", destination_filesystem=store)
    with store.open_output_stream("pairs/items.csv") as stream:
        stream.write(ITEMS.encode())
    return make_uri("pairs/train", object_store)
