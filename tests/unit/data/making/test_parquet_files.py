"""Pairs are made of items of every kind that Parquet holds, and bad ones are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.config import InspectConfig, PairsConfig
from sharedlayers_dist.data import (
    OrderOptions,
    PairCodecs,
    PairReading,
    index_dataset,
    inspect_dataset,
    make_pairs,
)
from sharedlayers_dist.data import files as files_module
from sharedlayers_dist.data.making import parquet_files as parquet_module
from sharedlayers_dist.data.making import writer as writer_module
from sharedlayers_dist.data.making.items import FileItems
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.unit.data.items.samples import BY_NAME, SAMPLES
from tests.unit.data.making.test_items import damage, write

WHO = ["x", "x", "y", "y", "y"]


def write_items(folder, column, who=WHO, name="1.parquet", **options):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"item": column, "who": who}), folder / name, **options)


def configure(tmp_path, **options):
    given: dict[str, Any] = {
        "item": "item",
        "num_pairs": 4,
        "validation_share": 0.0,
        "test_share": 0.0,
    }
    return PairsConfig(
        items=str(tmp_path / "items"),
        output=str(tmp_path / "pairs"),
        group="who",
        **(given | options),
    )


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_pairs_hold_the_items_of_the_file_and_inspection_finds_nothing_wrong(sample, tmp_path):
    write_items(tmp_path / "items", sample.column, row_group_size=2)
    # The samples of texts and tokens have an empty item.
    summary = make_pairs(configure(tmp_path, on_bad_row="skip"))
    index = index_dataset(str(tmp_path / "pairs" / "train"))
    assert (index.num_rows, index.a.kind) == (summary.sets["train"].pairs, sample_kind(sample))
    reading = PairReading(
        index=index,
        codecs=PairCodecs(sample.codec, sample.codec),
        options=OrderOptions(seed=0, batch_size=9, num_streams=1),
    )
    (batch,) = reading.open(World()).batches(0)
    places = [
        [[np.array_equal(item, x) for x in sample.encoded].index(True) for item in side]
        for side in (batch.a, batch.b)
    ]
    for a, b, label in zip(*places, batch.label[:, 0], strict=True):
        assert a != b
        assert label == (WHO[a] == WHO[b])
    report = inspect_dataset(InspectConfig(datasets=(index.uri,), verify=True))
    assert report.problems == ()


def sample_kind(sample):
    for name, kind in (("text", "text"), ("tokens", "tokens"), ("vectors", "vector")):
        if sample.name.startswith(name):
            return kind
    return "image"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text", "is null or empty"),
        ("tokens", "is null"),
        ("tokens", "is empty"),
        ("tokens", "has the id None"),
        ("tokens-of-one-length", "has the id -1"),
        ("tensors", "is null"),
        ("image-files", "is null"),
        ("image-files", "is no PNG or JPEG image"),
        ("image-files", "is a broken image"),
        ("image-structs", "holds no file"),
        ("vectors-of-float32", "has numbers that are not finite"),
        ("vectors-in-lists-of-float32", "has 3 numbers and must have 4"),
        ("vectors-in-lists-of-float64", "has numbers that are not finite"),
    ],
)
def test_an_item_that_cannot_be_used_is_named_or_left_out(name, reason, tmp_path):
    sample = BY_NAME[name]
    values = [
        value
        for told, value in sample.bad.items()
        if told.startswith(reason) or reason.startswith(told)
    ]
    value = values[0] if values else []
    bad = sample.with_bad_row(sample.table(4, first=2), 3, value)["a"]
    write_items(tmp_path / "items", bad, WHO[:4], row_group_size=2)
    with pytest.raises(UserError, match=rf"1\.parquet, row 4: column 'item' {reason}"):
        make_pairs(configure(tmp_path, num_pairs=2))
    summary = make_pairs(configure(tmp_path, num_pairs=2, on_bad_row="skip"))
    assert (summary.items, summary.bad_rows) == (3, 1)


def test_a_column_of_another_kind_is_refused(tmp_path):
    write_items(tmp_path / "items", pa.array([1.5] * 5))
    with pytest.raises(UserError, match=r"'item': a column of items must hold text .*: double"):
        make_pairs(configure(tmp_path))
    write_items(tmp_path / "items", BY_NAME["tokens"].column)
    with pytest.raises(UserError, match="'item': an image column must hold images"):
        make_pairs(configure(tmp_path, item="", image="item"))
    with pytest.raises(UserError, match="'item': a text column must be of strings"):
        make_pairs(configure(tmp_path, item="", text="item"))


def test_a_column_of_items_may_be_texts_in_files_of_any_format(tmp_path):
    (tmp_path / "items").mkdir()
    write(tmp_path / "items" / "1.csv")
    write(tmp_path / "items" / "2.parquet")
    source = FileItems(str(tmp_path / "items"), column="text", group="who", kind="any")
    assert sum(len(batch.items) for batch in source.iter_batches()) == 6
    write_items(tmp_path / "items", BY_NAME["tokens"].column, name="3.parquet")
    with pytest.raises(UserError, match="no column 'text'"):
        FileItems(str(tmp_path / "items"), column="text", group="who", kind="any")
    (tmp_path / "items" / "2.parquet").unlink()
    write(tmp_path / "items" / "1.csv", columns=("item", "who"))
    with pytest.raises(UserError, match=r"1\.csv holds texts, .*3\.parquet holds list<item: uint1"):
        FileItems(str(tmp_path / "items"), column="item", group="who", kind="any")


def test_ids_of_several_widths_are_read_from_one_folder(tmp_path):
    for number, width in enumerate((pa.int8(), pa.uint64())):
        ids = pa.array([[number, 1], [number, 2, 3], [number, 4]], pa.list_(width))
        write_items(tmp_path / "items", ids, ["x", "x", "y"], name=f"{number}.parquet")
    make_pairs(configure(tmp_path, num_pairs=6))
    assert pq.read_schema(next((tmp_path / "pairs").rglob("*.parquet"))).field(
        "a"
    ).type == pa.list_(pa.int64())


def test_how_long_vectors_are_is_told_by_the_first_that_there_is(tmp_path):
    column = pa.array([None, [], [1, 2], [3, 4], [5, 6, 7]], pa.list_(pa.float32()))
    write_items(tmp_path / "items", pa.array([None], pa.list_(pa.float32())), ["x"], "0.parquet")
    with pytest.raises(UserError, match=r"'item' of .*0\.parquet, where no row has numbers"):
        make_pairs(configure(tmp_path))
    write_items(tmp_path / "items", column)
    with pytest.raises(UserError, match=r"0\.parquet, row 1: column 'item' is null"):
        make_pairs(configure(tmp_path))
    source = FileItems(
        str(tmp_path / "items"), column="item", group="who", kind="any", on_bad_row="skip"
    )
    batches = list(source.iter_batches())
    assert [batch.items.to_pylist() for batch in batches] == [[], [[1, 2], [3, 4]]]
    assert source.item_type == batches[1].items.type == pa.list_(pa.float32(), 2)
    assert source.num_bad_rows == 4


def test_a_damaged_row_group_does_not_hide_how_long_vectors_are(tmp_path):
    column = pa.array(np.arange(10.0).reshape(5, 2).tolist(), pa.list_(pa.float64()))
    write_items(tmp_path / "items", column, row_group_size=2, use_dictionary=False)
    damage(tmp_path / "items" / "1.parquet", row_group=0, column=0)
    source = FileItems(
        str(tmp_path / "items"), column="item", group="who", kind="any", on_bad_row="skip"
    )
    with pytest.warns(UserWarning, match="row group 0: it is left out"):
        found = [x for batch in source.iter_batches() for x in batch.items.to_pylist()]
    assert found == [[4, 5], [6, 7], [8, 9]]


@pytest.mark.parametrize("kind", ["files", "tokens", "tensors"])
def test_of_large_items_little_is_in_memory_at_a_time(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(files_module, "_BYTES_AHEAD", 1 << 18)
    monkeypatch.setattr(parquet_module, "BYTES_PER_BATCH", 1 << 20)
    monkeypatch.setattr(parquet_module.ItemForm, "find_bad", lambda form, items: {})
    rng = np.random.default_rng(0)
    if kind == "files":
        column = pa.array([rng.bytes(20_000) for _ in range(1000)])
    elif kind == "tokens":  # The same ids again and again take no space in the file.
        column = pa.array([np.full(2500, n % 3) for n in range(1000)], pa.list_(pa.int64()))
    else:
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((1000, 50, 50)))
    # A page is read whole, and by default has 1,024 rows at least.
    write_items(tmp_path / "items", column, ["x"] * 1000, write_batch_size=16)
    del column
    before, most = pa.total_allocated_bytes(), 0
    source = FileItems(str(tmp_path / "items"), column="item", group="who", kind="any")
    for _ in source.iter_batches():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 8 << 20  # Of 20 MB.


def test_row_groups_of_large_files_stay_small(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_MAX_BYTES", 4 * 1024)
    monkeypatch.setattr(parquet_module.ItemForm, "find_bad", lambda form, items: {})
    rng = np.random.default_rng(0)
    files = [rng.bytes(500) for _ in range(100)]
    write_items(tmp_path / "items", pa.array(files), [f"{n % 20}" for n in range(100)])
    make_pairs(configure(tmp_path, num_pairs=96))
    (path,) = (tmp_path / "pairs" / "train").iterdir()
    footer = pq.read_metadata(path)
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == [4] * 24
    assert set(pq.read_table(path)["a"].to_pylist()) <= set(files)


def test_files_of_images_are_decoded_once_and_the_bad_ones_left_out_again(tmp_path, monkeypatch):
    sample = BY_NAME["image-files"]
    column = pa.concat_arrays([sample.column, pa.array([b"GIF89a", None]), sample.column])
    for name in ("1.parquet", "2.parquet"):
        write_items(tmp_path / "items", column, ["x"] * 12, name, row_group_size=5)
    source = FileItems(
        str(tmp_path / "items"), column="item", group="who", kind="any", on_bad_row="skip"
    )

    def read():
        return [item for batch in source.iter_batches() for item in batch.items.to_pylist()]

    first = read()
    monkeypatch.setattr(parquet_module.ItemForm, "find_bad", lambda *_: pytest.fail("decoded"))
    assert read() == read() == first == sample.column.to_pylist() * 4
    assert source.num_bad_rows == 4
