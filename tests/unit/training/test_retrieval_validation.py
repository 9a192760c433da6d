"""Retrieval figures of runs in this process; over ranks in tests/distributed/test_objectives.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.data import read_items
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models import find_encoder
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.files import list_checkpoints
from sharedlayers_dist.training.finite import NotFiniteError
from sharedlayers_dist.training.retrieval import FIGURES, estimate, find_queries, measure_queries
from tests.runs import read_lines

NAMES = {f"val_{name}" for name in FIGURES}
LOGGED = NAMES | {
    f"val_{name}_{end}" for name in ("recall_at_1", "map_at_r") for end in ("low", "high")
}


def make_encoder() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(4)])


def make_pair_of_encoders() -> keras.Model:
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    both = keras.layers.Concatenate()([keras.layers.Dense(3)(a), keras.layers.Dense(3)(b)])
    return keras.Model([a, b], keras.layers.Dense(1, activation="sigmoid")(both))


def write_pairs(folder, *, seed, with_groups=True, num_groups=8):
    """60 pairs of vectors of 4 items a group, which are near each other."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(num_groups), 4)
    items = (rng.normal(size=(num_groups, 6))[group] + rng.normal(size=(group.size, 6))).astype("f")
    a, b = rng.integers(group.size, size=(2, 60))
    columns = {"a": pa.FixedSizeListArray.from_arrays(items[a].ravel(), 6)}
    columns["b"] = pa.FixedSizeListArray.from_arrays(items[b].ravel(), 6)
    columns["label"] = (group[a] == group[b]).astype(np.int64)
    if with_groups:
        columns |= {"group_a": group[a], "group_b": group[b]}
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "1.parquet", row_group_size=11)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retrieval")
    write_pairs(folder / "train", seed=0)
    write_pairs(folder / "validation", seed=1)
    return folder


def make_config(folder: Path, run: str, **changes: Any) -> TrainConfig:
    options: dict[str, Any] = {"validation": str(folder / "validation"), "retrieval_items": 1000}
    options |= {"epochs": 2, "batch_size": 7} | changes
    return TrainConfig(pairs=str(folder / "train"), output=str(folder / run), **options)


def read_epochs(run):
    return [line for line in read_lines(run) if line["event"] == "epoch"]


def test_an_epoch_has_the_figures_of_the_distinct_validation_items(folder):
    """As they are found in the model that the run leaves, all at once; the default loss."""
    train(make_config(folder, "plain"), build=make_encoder)
    first, last = read_epochs(folder / "plain")
    assert set(first) >= LOGGED
    items = read_items(str(folder / "validation"), item="", group="")
    assert len(items.items) == len(np.unique(items.items, axis=0)) < 120
    model = keras.models.load_model(folder / "plain" / "model.keras")
    found = find_encoder(model)
    assert found is not None
    encodings = found.layer(items.items).numpy()
    group, queries = items.group_of_item, find_queries(items.group_of_item)
    values = measure_queries(encodings, group, queries)
    expected = estimate(values, group[queries], seed=0)
    for name in FIGURES:
        assert last[f"val_{name}"] == pytest.approx(expected[name].mean, rel=1e-6), name
    assert last["val_map_at_r_low"] == pytest.approx(expected["map_at_r"].low, rel=1e-6)
    assert last["val_recall_at_1_high"] == pytest.approx(expected["recall_at_1"].high, rel=1e-6)
    assert 0.125 < last["val_recall_at_1"] < 1  # It is better than chance, and could be worse.


def test_they_change_nothing_of_what_is_learnt_and_are_off_by_default(folder):
    with_figures, without = [
        train(make_config(folder, f"off{number}", retrieval_items=number), build=make_encoder)
        for number in (20, 0)
    ]
    assert with_figures.metrics.keys() - without.metrics.keys() == LOGGED
    for name, value in without.metrics.items():
        assert with_figures.metrics[name] == value, name


def test_what_the_model_cannot_tell_apart_ties(tmp_path):
    """Texts of one beginning, of several groups: equal to a model that reads 2 characters."""
    texts = [f"ab{number}" for number in range(40)]
    group = np.arange(40) % 20
    sides = {"a": texts[:20], "b": texts[20:], "label": np.arange(20) % 2}
    table = pa.table(sides | {"group_a": group[:20], "group_b": group[20:]})
    (tmp_path / "validation").mkdir()
    pq.write_table(table, tmp_path / "validation" / "1.parquet")
    (tmp_path / "train").symlink_to(tmp_path / "validation")

    def build() -> keras.Model:
        ids = keras.Input((2,), dtype="int32")
        embedded = keras.layers.Flatten()(keras.layers.Embedding(257, 5)(ids))
        return keras.Model(ids, keras.layers.Dense(9)(embedded))

    config = make_config(tmp_path, "run", truncate="end", epochs=1)
    result = train(config, build=build)
    # The other of item n is item n + 20: with n itself left out it has the rank n + 20 for item n,
    # and item n the rank n + 1 for it.
    expected = np.mean([1 / (n + 20) for n in range(20)] + [1 / (n + 1) for n in range(20)])
    assert result.metrics["val_mrr"] == pytest.approx(expected)


def test_the_best_model_may_be_that_of_the_largest_figure(folder):
    config = make_config(
        folder,
        "monitored",
        monitor="val_map_at_r",
        epochs=5,
        learning_rate=0.2,
        keep_checkpoints=1,
    )
    train(config, build=make_encoder)
    values = [line["val_map_at_r"] for line in read_epochs(folder / "monitored")]
    assert len(set(values)) > 1
    steps = [line["step"] for line in read_epochs(folder / "monitored")]
    kept = list_checkpoints(LocalFolder(folder / "monitored"))
    assert kept == [f"step-{n:08d}" for n in sorted({steps[values.index(max(values))], steps[-1]})]
    assert min(values) < max(values)


@pytest.mark.parametrize(
    ("changes", "build", "said"),
    [
        ({"validation": ""}, make_encoder, "Received: retrieval_items=1000, validation=''"),
        ({"validation": "", "monitor": "val_mrr"}, make_encoder, "=1000, validation=''"),
        ({"validation": "no_groups"}, make_encoder, "without the columns group_a and group_b"),
        ({"retrieval_items": 3}, make_encoder, "0 whole groups with 0 of the"),
        ({"retrieval_items": 6}, make_encoder, "1 whole groups with 4 of the"),
        ({}, make_pair_of_encoders, "Retrieval is measured of one encoder"),
        ({"monitor": "val_mrr", "retrieval_items": 0}, make_encoder, "`monitor` must be one of"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(folder, changes, build, said):
    if changes.get("validation"):
        changes = changes | {"validation": str(folder / changes["validation"])}
        write_pairs(folder / "no_groups", seed=2, with_groups=False)
    with pytest.raises(UserError, match=said):
        train(make_config(folder, "refused", **changes), build=build)
    assert not (folder / "refused").exists()


def test_encodings_that_are_not_finite_have_no_figures(folder):
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernel = self.model.trainable_variables[0]
            kernel.assign(kernel * np.nan)

    with pytest.raises(NotFiniteError):
        train(make_config(folder, "broken", log_every=100), [Break()], build=make_encoder)
    assert read_epochs(folder / "broken")[0]["val_mrr"] is None
