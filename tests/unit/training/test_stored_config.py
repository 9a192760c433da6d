"""A run goes on with what it was started with, also in a version with other options."""

import json
from dataclasses import dataclass

import pytest

from sharedlayers_dist import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.options import EMPTY_OBJECT, JsonObject
from sharedlayers_dist.training.stored_config import (
    require_same_training,
    storable,
    stored_config,
)

FACTS = {
    "kind": "text",
    "alphabet": "xy",
    "fingerprint": "abc",
    "validation_fingerprint": "",
    "versions": {"keras": "3", "sharedlayers_dist": "0.2.0"},
}
WRITTEN_BY_0_1 = json.loads("""{
  "pairs": "pairs", "output": "run", "model": "tweet_pair", "head": "concatenation",
  "validation": "", "epochs": 10, "batch_size": 256, "learning_rate": 0.001, "seed": 0,
  "num_streams": 24, "window": 0, "on_bad_row": "error", "mix": [], "groups_per_batch": 0,
  "items_per_group": 4, "item_column": "text", "group_column": "group", "log_every": 20,
  "tensorboard": false, "checkpoint_every": 0, "checkpoint_minutes": 0.0, "keep_checkpoints": 3,
  "keep_best": 1, "keep_every": 0, "monitor": "", "monitor_mode": "min", "early_stopping": 0,
  "plateau": 0, "initialize_from": "", "resume": false, "launcher": "auto", "num_workers": 1,
  "use_gpu": false, "cpus_per_worker": 1.0, "num_shard_actors": -1, "cpus_per_shard_actor": 0.0,
  "address": "", "max_failures": 3, "placement_seconds": 120.0, "kind": "text", "alphabet": "xy",
  "fingerprint": "abc", "validation_fingerprint": "", "versions": {"sharedlayers_dist": "0.1.0"}
}""")
"""A config.json of the first version, whole."""


def config(**changes):
    return TrainConfig(**({"pairs": "pairs", "output": "run"} | changes))


def stored(**changes):
    return json.loads(json.dumps(stored_config(config(**changes), FACTS)))


def require_same(was, facts=FACTS, **changes):
    require_same_training(was, config(**changes), facts)


def test_a_run_of_the_first_version_goes_on():
    free = {"epochs": 20, "keep_best": 2, "log_every": 1, "launcher": "ray", "num_workers": "1:3"}
    require_same(WRITTEN_BY_0_1, **free)
    require_same(WRITTEN_BY_0_1, FACTS | {"keras_settings": {"floatx": "float32"}})
    with pytest.raises(UserError, match="head: 'concatenation' in the run, 'cosine' asked for"):
        require_same(WRITTEN_BY_0_1, head="cosine")


def test_where_row_groups_are_kept_may_change():
    was = stored(data_cache="/copies", data_cache_gigabytes=5.0)
    assert was["decided_by"] == ["pairs"]
    require_same(was)
    require_same(was, data_cache="/others")


def test_an_option_that_is_newer_than_the_run_had_its_default():
    was = stored()
    for name in ("head", "window", "mix", "plateau", "monitor_mode", "log_every", "max_failures"):
        del was[name]
    require_same(was, log_every=7)
    with pytest.raises(UserError, match="window: 0 in the run, 4 asked for; plateau: 0 in the run"):
        require_same(was, window=4, plateau=2)


def test_an_option_of_a_newer_run_counts_only_where_it_decided_something():
    was = stored()
    require_same(was | {"warm_restarts": 0, "color": "green"})
    was["decided_by"].append("warm_restarts")
    with pytest.raises(UserError, match=r"warm_restarts=3 in a run of sharedlayers_dist 0\.2\.0"):
        require_same(was | {"warm_restarts": 3, "color": "green"})


def test_the_options_that_decided_something_are_stored():
    assert stored()["decided_by"] == ["pairs"]
    decided_by = stored(seed=3, head="cosine", mix=("2*more",), keep_best=3)["decided_by"]
    assert sorted(decided_by) == ["head", "mix", "pairs", "seed"]


def test_what_keras_was_set_to_must_be_the_same():
    facts = FACTS | {"keras_settings": {"floatx": "float32"}}
    was = json.loads(json.dumps(stored_config(config(), facts)))
    with pytest.raises(UserError, match=r"keras_settings: .*float32.* in the run, .*float16"):
        require_same(was, FACTS | {"keras_settings": {"floatx": "float16"}})


def test_a_direction_that_was_asked_for_stays():
    was = WRITTEN_BY_0_1 | {"monitor": "roc_auc"}
    with pytest.raises(UserError, match="monitor_mode: 'min' in the run, 'max' asked for"):
        require_same(was, monitor="roc_auc")
    require_same(was, monitor="roc_auc", monitor_mode="min")
    require_same(WRITTEN_BY_0_1, monitor="loss")  # By its default.


@dataclass(frozen=True, kw_only=True)
class WithObject(TrainConfig):
    settings: JsonObject = EMPTY_OBJECT


def test_an_object_is_stored_as_one_without_secrets():
    settings = {"rates": (0.1, 0.2), "from": {"uri": "s3://key:secret@bucket/x"}}
    config = WithObject(pairs="pairs", output="run", settings=settings)
    told = {"rates": [0.1, 0.2], "from": {"uri": "s3://***@bucket/x"}}
    assert json.loads(json.dumps(storable(config)))["settings"] == told
