"""Hard negatives of runs in this process; over ranks in tests/distributed/test_mining.py."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.data import ItemReader, VectorCodec, read_items
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models import EncodingView, pair_classifier
from sharedlayers_dist.training.finite import NotFiniteError
from sharedlayers_dist.training.mining import MineNegatives
from sharedlayers_dist.training.negatives import Window, find_negatives, make_candidates
from sharedlayers_dist.training.position import Position
from sharedlayers_dist.world import World
from tests.runs import MACHINE_FIGURES, read_last_checkpoint, read_lines

FIGURES = {"hard_negatives_share", "hard_negatives_cosine", "mining_seconds"}


def make_encoder() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(4)])


def make_pair_of_encoders() -> keras.Model:
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    both = keras.layers.Concatenate()([keras.layers.Dense(3)(a), keras.layers.Dense(3)(b)])
    return keras.Model([a, b], keras.layers.Dense(1, activation="sigmoid")(both))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Vectors of 20 groups of 1 to 5 items."""
    folder = tmp_path_factory.mktemp("mining")
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), [1, 2, 3, 5] * 5)
    items = (rng.normal(size=(20, 6))[group] + rng.normal(size=(group.size, 6))).astype("f")
    columns = {"item": pa.FixedSizeListArray.from_arrays(items.ravel(), 6), "group": group}
    (folder / "train").mkdir()
    pq.write_table(pa.table(columns), folder / "train" / "1.parquet")
    return folder


def make_config(folder: Path, run: str, **changes: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "groups_per_batch": 4,
        "items_per_group": 2,
        "item_column": "item",
        "hard_negatives": 2,
        "epochs": 3,
    }
    return TrainConfig(pairs=str(folder / "train"), output=str(folder / run), **(options | changes))


def read_epochs(run):
    return [line for line in read_lines(run) if line["event"] == "epoch"]


def expected_negatives(encoder, items, window, count=2):
    encodings = encoder(items.items).numpy()
    places = np.arange(len(encodings))
    candidates = make_candidates(encodings, places, items.group_of_item, items.key_of_item)
    return find_negatives(candidates, places, count, window)


class Weights(keras.callbacks.Callback):
    """Keeps the weights at the beginning of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.of_epoch: list[list[np.ndarray]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.of_epoch.append([v.numpy() for v in self.model.trainable_variables])


class Stop(keras.callbacks.Callback):
    """Ends a run in an epoch, when a checkpoint of its second step is sure to be written."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        step = int(self.model.optimizer.iterations) - self._epoch * self.params["steps"]
        if step >= 0:
            time.sleep(0.5)
        if step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("margin", [None, 0.8])
def test_an_epoch_has_the_negatives_of_the_weights_at_its_beginning(folder, margin):
    """All but the first: what is logged is of them, and the checkpoint within it holds them."""
    weights, run = Weights(), folder / f"plain{margin}"
    options = {"hard_negatives_margin": margin, "checkpoint_every": 1}

    config = make_config(folder, run.name, **options)
    with pytest.raises(KeyboardInterrupt):
        train(config, [weights, Stop(2)], build=make_encoder)
    (stored,) = read_last_checkpoint(run).part("negatives")
    first, second = read_epochs(run)
    assert not FIGURES & first.keys()
    items = read_items(config.pairs, item="item", group="group")
    encoder = make_encoder()
    found = []
    for of_epoch in weights.of_epoch[1:]:
        kernel, bias = of_epoch[:2]
        encoder.set_weights([kernel, bias])
        found.append(
            expected_negatives(encoder, items, Window(config.hard_negatives_max_cosine, margin))
        )
    np.testing.assert_array_equal(stored, found[1].items)
    assert stored.dtype == np.int32
    is_found = found[0].items >= 0
    assert second["hard_negatives_share"] == pytest.approx(is_found.any(axis=1).mean())
    assert second["hard_negatives_cosine"] == pytest.approx(found[0].cosines[is_found].mean())
    assert 0 < second["mining_seconds"] < 60
    assert (second["hard_negatives_share"] == 1) == (margin is None)


def test_a_run_that_was_stopped_within_an_epoch_mines_for_the_next_ones(folder):
    """With the figures of the epoch in which it goes on."""
    train(make_config(folder, "undisturbed"), build=make_encoder)
    config = make_config(folder, "stopped", checkpoint_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(config, [Stop(1)], build=make_encoder)
    assert read_last_checkpoint(config.output).state["position"]["step_of_epoch"] == 2
    train(replace(config, resume=True), build=make_encoder)
    found, wanted = (read_epochs(folder / run) for run in ("stopped", "undisturbed"))
    assert len(found) == len(wanted) == 3
    for line, wanted_line in zip(found, wanted, strict=True):
        assert line.keys() == wanted_line.keys()
        for name in wanted_line.keys() - MACHINE_FIGURES:
            assert line[name] == wanted_line[name], name


def test_none_are_mined_by_default(folder):
    run = folder / "off"
    train(make_config(folder, "off", hard_negatives=0, epochs=2), build=make_encoder)
    assert not any(FIGURES & line.keys() for line in read_epochs(run))


def test_a_run_of_one_epoch_is_as_without(folder):
    with_negatives, without = [
        train(make_config(folder, f"one{n}", hard_negatives=n, epochs=1), build=make_encoder)
        for n in (2, 0)
    ]
    assert with_negatives.metrics == without.metrics


def test_items_that_no_epoch_takes_are_no_negatives_and_have_none(folder):
    """Those of groups without a pair, where a batch is of pairs."""
    items = read_items(str(folder / "train"), item="item", group="group")
    reader = ItemReader(
        items,
        codec=VectorCodec(size=6, dtype="float32"),
        groups_per_batch=4,
        items_per_group=2,
        seed=0,
        world=World(),
        as_pairs=True,
    )
    keras.utils.set_random_seed(0)
    encoder = make_encoder()
    view = EncodingView(pair_classifier(encoder, "scaled_cosine"))
    config = make_config(folder, "none", hard_negatives_max_cosine=1.0)
    mining = MineNegatives(view, reader, config, at_once=7, start=Position())
    assert reader.negatives is None
    mining.on_epoch_begin(1)
    found = reader.negatives
    assert found is not None
    lone = np.flatnonzero(np.bincount(items.group_of_item)[items.group_of_item] == 1)
    assert lone.size == 5
    assert (found[lone] == -1).all()
    assert not np.isin(found, lone).any()
    others = np.setdiff1d(np.arange(len(found)), lone)
    expected = expected_negatives(encoder, items, Window(1), count=9).items
    for place in others:
        wanted = [item for item in expected[place].tolist() if item not in lone][:2]
        assert found[place].tolist() == wanted


@pytest.mark.parametrize(
    ("changes", "build", "said"),
    [
        ({"groups_per_batch": 0}, make_encoder, "among groups of items. Set groups_per_batch"),
        ({"hard_negatives": 0, "hard_negatives_margin": 0.1}, make_encoder, "Set hard_negatives"),
        ({"hard_negatives_max_cosine": 1.5}, make_encoder, "must lie between 0 and 1"),
        ({}, make_pair_of_encoders, "mined with one encoder.*Received: hard_negatives=2"),
    ],
)
def test_what_cannot_be_mined_is_refused_before_the_first_step(folder, changes, build, said):
    with pytest.raises(UserError, match=said):
        train(make_config(folder, "refused", **changes), build=build)
    assert not (folder / "refused").exists()


def test_encodings_that_are_not_finite_have_no_negatives(folder):
    class Break(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:  # After this epoch's were mined; the next ones are of NaN.
                kernel = self.model.trainable_variables[0]
                kernel.assign(kernel * np.nan)

    with pytest.raises(NotFiniteError, match="loss=nan"):
        train(make_config(folder, "broken", log_every=100), [Break()], build=make_encoder)
