"""Runs on pairs of a real S3 server that keep their row groups on a disk."""

from dataclasses import replace

import pytest
from pyarrow import fs

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.data import CacheOptions, index_dataset
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.training.data_sources import CodedSource
from sharedlayers_dist.training.row_group_copies import describe_cache, plan_cache
from tests.object_store import make_bucket, make_uri
from tests.runs import as_arguments, make_options, read_lines
from tests.unit.data.samples import codecs_for


@pytest.fixture(scope="module")
def stored(trained, object_store):
    """The URI of the pairs that the finished run was trained on, four row groups of them."""
    store = make_bucket("copied", object_store)
    fs.copy_files(str(trained / "pairs"), "copied/train", destination_filesystem=store)
    return make_uri("copied/train", object_store)


def test_a_run_is_the_same_from_copies_and_says_what_it_read(command, trained, stored, tmp_path):
    copies = tmp_path / "copies"
    found = 4  # By the second epoch.
    for name in ("first", "second"):
        options = make_options(stored, tmp_path / name, data_cache=copies, keep_best=2)
        code, _, told = command("train", *as_arguments(options))
        assert code == 0, told
        assert read_lines(tmp_path / name, of_machine=False) == read_lines(
            trained / "run", of_machine=False
        )
        assert "Row groups of s3://***@copied/train?scheme=http" in told
        assert f"are kept in {copies}, up to 20 GB on each host." in told
        assert f"{found} row groups came from the cache, {8 - found} from the object store." in told
        found = 8
    assert len(list(copies.iterdir())) == 4


def test_a_run_goes_on_with_another_cache(stored, tmp_path):
    options = make_options(stored, tmp_path / "run")
    train(TrainConfig(**options | {"epochs": 1, "data_cache": str(tmp_path / "copies")}))
    others = tmp_path / "others"
    assert train(TrainConfig(**options, resume=True, data_cache=str(others))).steps == 4
    assert len(list(others.iterdir())) == 4


def test_a_cache_that_cannot_be_written_to_is_refused_before_anything_is(stored, tmp_path):
    (tmp_path / "file").write_text("")
    copies = str(tmp_path / "file" / "copies")
    with pytest.raises(UserError, match=r"data_cache='.*/file/copies' \(Not a directory\)"):
        train(TrainConfig(**make_options(stored, tmp_path / "run", data_cache=copies)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_cache_that_is_of_no_use_is_said_to_be(trained, stored):
    near, far = (
        CodedSource(index := index_dataset(uri), codecs_for(index))
        for uri in (str(trained / "pairs"), stored)
    )
    config = TrainConfig(pairs="p", output="o", data_cache="/copies", data_cache_gigabytes=0.5)
    assert plan_cache(near.source, config) is None
    assert plan_cache(far.source, config) == CacheOptions(folder="/copies", max_bytes=500_000_000)
    (line,) = describe_cache(near, None, config)
    assert line.startswith("data_cache='/copies' is not used: the data are on disks already")
    (line,) = describe_cache(near, far, config)
    assert line.startswith("Row groups of s3://***@copied/train")
    assert describe_cache(far, None, replace(config, data_cache="")) == []
