from dataclasses import fields

import keras
import pytest

from sharedlayers_dist import TrainConfig
from sharedlayers_dist.config import (
    MODE_OF_METRIC,
    TRAIN_GROUPS,
    CheckpointConfig,
    InspectConfig,
    OrderConfig,
    PairsConfig,
    resolve_monitor,
)
from sharedlayers_dist.errors import UserError


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": ""},
        {"output": ""},
        {"epochs": 0},
        {"batch_size": 0},
        {"num_streams": 0},
        {"learning_rate": 0.0},
        {"seed": -1},
        {"checkpoint_every": -1},
        {"keep_checkpoints": 0},
        {"data_cache": "s3://bucket/copies"},
        {"data_cache_gigabytes": 0.0},
        {"num_workers": 0},
        {"num_workers": "3:2"},
        {"num_workers": "0:2"},
        {"num_workers": "two"},
        {"num_workers": "1:2:3"},
        {"num_shard_actors": -2},
        {"max_failures": -1},
        {"model": ""},
        {"head": "sum"},
        {"monitor_mode": "maximum"},
        {"on_bad_row": "ignore"},
        {"launcher": "horovod"},
        {"epochs": "3"},
        {"learning_rate": float("nan")},
        {"mix": "extra"},
    ],
)
def test_a_value_out_of_range_is_named(wrong):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}={value!r}"):
        TrainConfig(**({"pairs": "pairs", "output": "run"} | wrong))


@pytest.mark.parametrize(
    ("num_workers", "expected"), [(3, (3, 3)), ("3", (3, 3)), ("2:8", (2, 8)), ("1:1", (1, 1))]
)
def test_workers_are_a_number_or_a_range(num_workers, expected):
    config = TrainConfig(pairs="p", output="o", num_workers=num_workers)
    assert config.worker_range == expected


def test_pairs_cannot_be_made_of_a_column_with_itself():
    with pytest.raises(ValueError, match=r"`group` must be another column.*Received: group='text'"):
        PairsConfig(items="i.csv", output="o", text="text", group="text")


def test_a_choice_that_is_none_is_refused_by_the_other_commands_too():
    with pytest.raises(ValueError, match="`split_by` must be one of group, item"):
        PairsConfig(
            items="i.csv",
            output="o",
            text="t",
            group="g",
            split_by="author",  # type: ignore[arg-type]
        )
    with pytest.raises(ValueError, match="`split_by` must be one of recorded, group, item"):
        InspectConfig(("pairs",), split_by="author")  # type: ignore[arg-type]


def test_every_option_is_in_one_group_and_can_be_had_with_it():
    in_groups = [field.name for group in TRAIN_GROUPS for field in fields(group)]
    assert sorted(in_groups) == sorted(field.name for field in fields(TrainConfig))
    config = TrainConfig(pairs="p", output="o", seed=3, keep_best=2)
    assert config.group(OrderConfig) == OrderConfig(seed=3)
    assert config.group(CheckpointConfig) == CheckpointConfig(keep_best=2)
    assert TrainConfig.from_groups(*map(config.group, TRAIN_GROUPS)) == config


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("loss", "min")),
        ({"validation": "v"}, ("val_loss", "min")),
        ({"monitor": "roc_auc"}, ("roc_auc", "max")),
        ({"monitor": "val_accuracy", "validation": "v"}, ("val_accuracy", "max")),
        ({"monitor": "roc_auc", "monitor_mode": "min"}, ("roc_auc", "min")),
        ({"monitor_mode": "max"}, ("loss", "max")),
    ],
)
def test_a_metric_has_its_own_direction(options, expected):
    config = TrainConfig(pairs="p", output="o", **options)
    assert (config.monitored, config.monitored_mode) == expected


def test_a_metric_without_a_known_direction_needs_one():
    with pytest.raises(UserError, match=r"monitor='f1'\. Set monitor_mode to min or max"):
        resolve_monitor("f1", "auto", has_validation=False)
    assert resolve_monitor("f1", "max", has_validation=False) == ("f1", "max")


def test_the_directions_are_those_of_keras():
    metrics = {"accuracy": keras.metrics.BinaryAccuracy(), "roc_auc": keras.metrics.AUC()}
    assert {*metrics, "loss"} == set(MODE_OF_METRIC)
    for name, metric in metrics.items():
        assert metric._direction == {"min": "down", "max": "up"}[MODE_OF_METRIC[name]]
