"""What one worker alone meets, or what may pass: the driver tells it, and goes on or ends soon."""

import time
from functools import partial
from pathlib import Path

import pytest
import ray
from pyarrow import fs

import sharedlayers_dist.ray
from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray import HorovodConfig
from sharedlayers_dist.ray import driver as driver_module
from sharedlayers_dist.ray.same_sources import Sources, read_sources
from tests.distributed.pairs import write_text_pairs
from tests.distributed.ray.undisturbed import make_options
from tests.object_store import Way, make_bucket, make_uri

CONNECT_SECONDS = 60
SECONDS_TO_END = 40.0
"""Of a run that has not begun: workers are started and TensorFlow is loaded in them."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_text_pairs(tmp_path_factory.mktemp("pairs") / "train", 50)


def make_config(folder: Path, pairs: str | Path, **options) -> TrainConfig:
    own = {
        "pairs": str(pairs),
        "output": str(folder / "run"),
        "epochs": 1,
        "launcher": "ray",
        "num_workers": 2,
        "cpus_per_worker": 1,
        "num_shard_actors": 0,
    }
    return TrainConfig(**make_options(folder, "run") | own | options)


@pytest.mark.slow
def test_what_the_workers_warn_of_is_told_once_by_the_driver(pairs, tmp_path, ray_cluster, capfd):
    own = Path(write_text_pairs(tmp_path / "train", 50))
    (own / "notes.txt").write_text("These are pairs.")
    sharedlayers_dist.ray.train(make_config(tmp_path, own))
    told = capfd.readouterr().err
    line = f"sharedlayers: Left out of the dataset {own}: 1 file that is not named "
    assert told.count("Left out of the dataset") == told.count(line) == 1, told


def refuse_on_rank_one() -> list:
    if ray.train.get_context().get_world_rank() == 1:
        raise UserError("`patience` must be at least 1. Received: patience=0.")
    return []


def test_a_mistake_that_one_worker_meets_before_the_ranks_join_ends_all_soon(
    pairs, tmp_path, ray_cluster, capfd
):
    config = make_config(tmp_path, pairs, max_failures=5)
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"^Rank 1 on the node [\d.]+ failed: `patience` must be"):
        sharedlayers_dist.ray.train(
            config, refuse_on_rank_one, horovod=HorovodConfig(connect_seconds=CONNECT_SECONDS)
        )
    assert time.monotonic() - begin < SECONDS_TO_END
    assert "started again" not in capfd.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


def read_others_on_rank_one() -> Sources:
    sources = read_sources()
    is_worker = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
    if is_worker and ray.train.get_context().get_world_rank() == 1:
        return sources._replace(digest="another")
    return sources


@pytest.mark.slow
def test_a_worker_with_other_sources_ends_all_soon(
    pairs, tmp_path, ray_cluster, monkeypatch, capfd
):
    """As a node has them that joins after the driver has looked."""
    monkeypatch.setattr(driver_module, "read_sources", read_others_on_rank_one)
    config = make_config(tmp_path, pairs, max_failures=5)
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"^Rank 1 on the node .* must have the same sources"):
        sharedlayers_dist.ray.train(config, horovod=HorovodConfig(connect_seconds=CONNECT_SECONDS))
    assert time.monotonic() - begin < SECONDS_TO_END
    assert "started again" not in capfd.readouterr().err


def note_a_restart(note: Path) -> list:
    if sharedlayers_dist.ray.num_restarts():
        note.touch()
    return []


@pytest.mark.slow
def test_a_store_that_fails_for_a_while_is_asked_again(
    pairs, tmp_path, ray_cluster, object_store, capfd
):
    make_bucket("away", object_store)
    store, _ = fs.FileSystem.from_uri(make_uri("away", object_store))
    fs.copy_files(str(pairs), "away/train", destination_filesystem=store)
    note = tmp_path / "restarted"
    with Way(
        object_store,
        may_pass=lambda line: not line.startswith(b"GET /away/") or note.exists(),
        for_good=False,
    ) as way:
        config = make_config(tmp_path, make_uri("away/train", way.address), max_failures=1)
        result = sharedlayers_dist.ray.train(config, partial(note_a_restart, note))
    assert result.epochs == 1
    told = capfd.readouterr().err
    assert "started again on 2 worker(s), since " in told
    assert "away/train/one.parquet: it cannot be read: AWS Error NETWORK_CONNECTION" in told
    assert "secret" not in told
