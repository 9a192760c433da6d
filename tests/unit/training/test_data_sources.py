"""Trainings on items of every kind: what the model is given is what was stored."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from keras import layers
from numpy.typing import NDArray

from sharedlayers_dist import TrainConfig, evaluate, train
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate.trained_run import TrainedRun
from tests.unit.data.items.samples import BY_NAME


def build_towers(a, b):
    """A pair model of two towers; each of `a` and `b` is the shape and the type of its items."""
    inputs, encoded = [], []
    for name, (shape, dtype) in (("a", a), ("b", b)):
        items = keras.Input(shape, dtype=dtype, name=name)
        x = layers.Embedding(300, 3)(items) if "int" in dtype else items
        inputs.append(items)
        encoded.append(layers.Dense(3)(layers.Flatten()(x)))
    merged = layers.Dense(1, activation="sigmoid")(layers.Concatenate()(encoded))
    return keras.Model(inputs, merged)


def write_pairs(folder, a, b):
    """Pairs of items of two samples, which may be the same."""
    folder.mkdir()
    table = a.table(12).set_column(1, "b", b.table(12)["b"])
    pq.write_table(table, folder / "1.parquet", row_group_size=5)
    return str(folder)


def configure(folder, a, b, **options):
    return TrainConfig(
        pairs=str(folder / "pairs"),
        output=str(folder / "run"),
        model_options={"a": a, "b": b},
        epochs=1,
        batch_size=4,
        alphabet_size=2,
        **options,
    )


def as_floats(values: NDArray) -> NDArray:
    return values.astype(np.float32)


def as_matrices(ids: NDArray) -> NDArray:
    return np.eye(3, dtype=np.float32)[ids][..., 1:]


CASES: dict[
    str, tuple[str, tuple[tuple[int, ...], str], Callable[[NDArray], NDArray]]
] = {  # Samples of both sides, what the model takes of each, and what makes that of a batch's.
    "text": ("text", ((3, 2), "float32"), as_matrices),
    "text as ids": ("text-padded-at-the-end", ((3,), "int32"), np.asarray),
    "tokens": ("tokens", ((4,), "int32"), np.asarray),
    "tensors": ("tensors-of-floats", ((4,), "float32"), as_floats),
    "image files": ("image-structs", ((4, 3, 1), "float32"), lambda x: as_floats(x) / 255),
    "vectors": ("vectors-of-float64", ((4,), "float32"), as_floats),
    "lists of floats": ("vectors-in-lists-of-float64", ((4,), "float32"), as_floats),
}


@pytest.mark.parametrize(
    ("a", "b"),
    [*((name, name) for name in CASES), ("text", "image files"), ("vectors", "tokens")],
    ids=str,
)
def test_a_model_is_trained_and_applied_to_what_is_stored(tmp_path, a, b):
    sides = [CASES[a], CASES[b]]
    samples = [BY_NAME[name] for name, _, _ in sides]
    write_pairs(tmp_path / "pairs", *samples)
    pad = "end" if a == "text as ids" else "begin"
    config = configure(tmp_path, *(taken for _, taken, _ in sides), pad=pad)
    assert train(config, build=build_towers).steps == 3
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    kinds = [stored["items"][side]["kind"] for side in "ab"]
    assert stored["alphabet"] == ("ab" if "text" in kinds else "")
    scored = evaluate.predict(config.output, config.pairs, str(tmp_path / "scores.parquet"))
    rows = np.arange(12)
    items = [
        convert(sample.encoded[(rows + shift) % 5])
        for sample, (_, _, convert), shift in zip(samples, sides, (0, 1), strict=True)
    ]
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_allclose(scored.scores, model.predict(items, verbose=0)[:, 0], rtol=1e-4)


@pytest.mark.parametrize("which", ["pairs", "mix", "validation"])
def test_pairs_of_one_label_are_refused(tmp_path, which):
    sample = BY_NAME["text"]
    of_both = write_pairs(tmp_path / "pairs", sample, sample)
    table = sample.table(12)
    ones = table.set_column(2, "label", pa.array([1] * 12, pa.int8()))
    for name in ("ones", "others"):
        (tmp_path / name).mkdir()
        pq.write_table(ones, tmp_path / name / "1.parquet")
    only = str(tmp_path / "ones")
    options: dict[str, dict[str, Any]] = {
        "pairs": {"pairs": only},
        "mix": {"pairs": only, "mix": (f"1*{tmp_path}/others",)},
        "validation": {"validation": only},
    }
    config = replace(configure(tmp_path, ((3,), "int32"), ((3,), "int32")), **options[which])
    with pytest.raises(
        UserError, match=r"pairs must have both labels.* (12|24) pairs of the label 1"
    ):
        train(config, build=build_towers)
    assert not (tmp_path / "run").exists()
    if which == "mix":  # One of them has both.
        assert train(replace(config, mix=(f"1*{of_both}",)), build=build_towers).steps == 6


def test_pairs_are_made_on_the_fly_of_image_files(tmp_path):
    sample = BY_NAME["image-files"]
    (tmp_path / "pairs").mkdir()
    table = pa.table({"image": sample.column, "digit": [0, 0, 1, 1, 1]})
    pq.write_table(table, tmp_path / "pairs" / "1.parquet")
    taken = ((4, 3, 3), "float32")
    options = {"groups_per_batch": 2, "item_column": "image", "group_column": "digit"}
    assert train(configure(tmp_path, taken, taken, **options), build=build_towers).steps == 1
    other = configure(tmp_path, taken, ((4, 3, 1), "float32"), **options)
    with pytest.raises(UserError, match="take both items of a pair alike"):
        train(other, build=build_towers)


def test_an_id_beyond_the_models_table_is_a_bad_row(tmp_path):
    sample = BY_NAME["tokens"]
    table = sample.with_bad_row(sample.table(12), 7, [3, 300])  # The table has 300 rows.
    (tmp_path / "pairs").mkdir()
    pq.write_table(table, tmp_path / "pairs" / "1.parquet", row_group_size=5)
    taken = ((4,), "int32")
    with pytest.raises(UserError) as refused:
        train(configure(tmp_path, taken, taken), build=build_towers)
    told = "row group 1, row 2: column 'a' has the id 300, and the model's table has 300 rows"
    assert f"{tmp_path}/pairs/1.parquet, {told}" in str(refused.value)
    config = configure(tmp_path, taken, taken, on_bad_row="skip", resume=True)
    assert train(config, build=build_towers).steps == 3
    with pytest.raises(UserError, match=told):
        evaluate.predict(config.output, config.pairs, str(tmp_path / "scores.parquet"))
    items = {"groups_per_batch": 2, "item_column": "a", "group_column": "label"}
    on_the_fly = replace(configure(tmp_path, taken, taken, **items), output=str(tmp_path / "other"))
    with pytest.raises(UserError, match=told):
        train(on_the_fly, build=build_towers)


@pytest.fixture
def run_on_ids(tmp_path):
    write_pairs(tmp_path / "pairs", BY_NAME["text"], BY_NAME["text"])
    taken = ((3,), "int32")
    config = configure(tmp_path, taken, taken)
    train(config, build=build_towers)
    return config


def test_a_run_goes_on_with_the_same_items_alone(run_on_ids, tmp_path):
    taken = ((3,), "int32")
    with pytest.raises(UserError, match="pad: 'begin' in the run, 'end' asked for"):
        train(configure(tmp_path, taken, taken, pad="end", resume=True), build=build_towers)


def test_a_run_that_tells_nothing_of_its_items_is_of_tweets(run_on_ids, tmp_path):
    """As all were before there were items of other kinds."""
    path = tmp_path / "run" / "config.json"
    stored = json.loads(path.read_text())
    for name in ("items", "truncate", "pad", "alphabet_size"):
        del stored[name]
    path.write_text(json.dumps(stored))
    options = TrainedRun.load(run_on_ids.output).options
    assert (options.truncate, options.pad, options.alphabet_size) == ("begin", "begin", 256)


def test_pairs_that_the_model_cannot_take_are_refused(tmp_path):
    write_pairs(tmp_path / "pairs", BY_NAME["text"], BY_NAME["vectors-of-float32"])
    config = configure(tmp_path, ((3,), "int32"), ((5,), "float32"))
    with pytest.raises(
        UserError, match=r"column 'b' of .*/pairs, which holds vectors of 4 float32, and the model"
    ):
        train(config, build=build_towers)
    assert not (tmp_path / "run").exists()
