"""Datasets on S3: a real server on this machine, asked through pyarrow's own client."""

import dataclasses

import numpy as np
import pytest
from pyarrow import fs

from sharedlayers_dist.config import InspectConfig, PairsConfig
from sharedlayers_dist.data import (
    index_dataset,
    inspect_dataset,
    make_pairs,
    resolve_alphabet,
)
from sharedlayers_dist.storage.failures import StorageError
from sharedlayers_dist.storage.uri import hide_secrets
from sharedlayers_dist.world import World
from tests.object_store import make_bucket, make_uri
from tests.unit.data.samples import open_pairs, write_dataset

ITEMS = "text,who\n" + "".join(f"text {i} of {i % 9},{i % 9}\n" for i in range(99))


@pytest.fixture(scope="module")
def uri(object_store, tmp_path_factory):
    """A dataset of two files in a bucket."""
    local = write_dataset(tmp_path_factory.mktemp("local"), [[7, 5], [9]], alphabet="ab0123456789")
    store = make_bucket("pairs", object_store)
    fs.copy_files(local, "pairs/train", destination_filesystem=store)
    with store.open_output_stream("pairs/items.csv") as stream:
        stream.write(ITEMS.encode())
    return make_uri("pairs/train", object_store)


def test_a_dataset_in_a_bucket_is_read_like_a_folder(uri):
    index = index_dataset(uri)
    assert [file.name for file in index.files] == ["part-00000.parquet", "part-00001.parquet"]
    reader = open_pairs(
        index,
        alphabet=resolve_alphabet(index),
        batch_size=4,
        seed=0,
        num_streams=4,
        world=World(rank=1, size=2),
    )
    rows = np.concatenate([batch.rows for batch in reader.batches(0)])
    planned = [step.rows for step in reader.reading.plan(0).iter_steps(rank=1, size=2)]
    assert rows[rows >= 0].tolist() == np.concatenate(planned).tolist()


@pytest.mark.parametrize("path", ["pairs/missing", "no-such-bucket/train"])
def test_what_is_not_there_is_said_without_the_secret(uri, object_store, path):
    with pytest.raises(ValueError, match=f"no such dataset: s3://\\*\\*\\*@{path}") as refused:
        index_dataset(make_uri(path, object_store))
    assert "secret" not in str(refused.value)


def test_pairs_are_made_of_items_in_a_bucket_and_do_not_tell_the_secret(
    uri, object_store, tmp_path
):
    items = make_uri("pairs/items.csv", object_store)
    config = PairsConfig(items=items, text="text", group="who", output=str(tmp_path / "out"))
    make_pairs(config)
    made = index_dataset(str(tmp_path / "out" / "train"))
    assert made.metadata.made_by["items"].startswith("s3://***@pairs/items.csv?")
    for name in ("absent.csv", "absent/"):
        absent = make_uri(f"pairs/{name}", object_store)
        with pytest.raises(ValueError, match=r"no such file.*s3://\*\*\*@pairs") as refused:
            make_pairs(dataclasses.replace(config, items=absent, output=str(tmp_path / "no")))
        assert "secret" not in str(refused.value)


def test_sets_in_a_bucket_are_inspected_without_telling_the_secret(uri, object_store):
    folder = make_uri("pairs", object_store)
    with pytest.warns(UserWarning, match=r"Left out of s3://\*\*\*@pairs.*\(items\.csv\)"):
        report = inspect_dataset(InspectConfig(datasets=(folder,)))
    assert list(report.sets) == ["train"]
    assert report.sets["train"].num_rows == 21
    assert list(inspect_dataset(InspectConfig(datasets=(uri,))).sets) == ["train"]
    assert "s3://***@pairs/train?" in str(report)
    assert "secret" not in str(report) + report.to_json()
    with pytest.raises(ValueError, match="can be given once") as refused:
        inspect_dataset(InspectConfig(datasets=(uri, uri)))
    assert "secret" not in str(refused.value)


def test_a_store_that_cannot_be_reached_is_said():
    with pytest.raises(StorageError, match=r"s3://\*\*\*@pairs.* cannot be reached: .*") as refused:
        inspect_dataset(InspectConfig(datasets=(make_uri("pairs", "127.0.0.1:1"),)))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("s3://key:a/b+c@bucket/x", "s3://***@bucket/x"),
        ("s3://bucket/x@y", "s3://bucket/x@y"),
        ("hdfs://host:8020/x@y", "hdfs://host:8020/x@y"),
        ("hdfs://host:8020: ask me@home", "hdfs://host:8020: ask me@home"),
        ("gs://anonymous@bucket/x", "gs://***@bucket/x"),
        ("/a/path:with@signs", "/a/path:with@signs"),
    ],
)
def test_secrets_in_a_uri_are_hidden(uri, shown):
    assert hide_secrets(uri) == shown
