"""Pairs made of items on an object store."""

import dataclasses

import pytest

from sharedlayers_dist.config import PairsConfig
from sharedlayers_dist.data import index_dataset, make_pairs
from tests.object_store import make_uri


def test_pairs_are_made_of_items_in_a_bucket_and_do_not_tell_the_secret(
    bucket, object_store, tmp_path
):
    items = make_uri("pairs/items.csv", object_store)
    config = PairsConfig(items=items, text="text", group="who", output=str(tmp_path / "out"))
    make_pairs(config)
    made = index_dataset(str(tmp_path / "out" / "train"))
    assert made.metadata is not None
    assert made.metadata.made_by["items"].startswith("s3://***@pairs/items.csv?")
    for name in ("absent.csv", "absent/"):
        absent = make_uri(f"pairs/{name}", object_store)
        with pytest.raises(ValueError, match=r"no such file.*s3://\*\*\*@pairs") as refused:
            make_pairs(dataclasses.replace(config, items=absent, output=str(tmp_path / "no")))
        assert "secret" not in str(refused.value)
