"""Inspection says what is in a dataset, and finds everything that is made wrong in one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.config import InspectConfig, MakingConfig
from sharedlayers_dist.data.index import index_dataset
from sharedlayers_dist.data.inspection import inspect as inspection_module
from sharedlayers_dist.data.inspection.inspect import inspect_dataset
from sharedlayers_dist.data.making.items import ArrayItems
from sharedlayers_dist.data.making.make_pairs import make_pairs_of
from sharedlayers_dist.data.schema import PairMetadata, pair_schema
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import StorageError
from tests.object_store import make_uri
from tests.unit.data.items.samples import BY_NAME, SAMPLES
from tests.unit.data.making.test_items import images_of
from tests.unit.data.making.test_writer import texts_of

GOOD_ROWS = [
    ("one a", "two a", 1, "A", "A"),
    ("one a", "one b", 0, "A", "B"),
    ("one b", "two b", 1, "B", "B"),
    ("two a", "two b", 0, "A", "B"),
]
OTHER_ROWS = [
    ("one c", "two c", 1, "C", "C"),
    ("one c", "one d", 0, "C", "D"),
]


def write(folder, rows, alphabet="abcdenotw 12", row_group_size=2, **made_by):
    """Writes rows of (a, b, label, group_a, group_b) to a dataset of one file."""
    schema = pair_schema(pa.string(), PairMetadata(kind="text", alphabet=alphabet, made_by=made_by))
    schema = pa.schema([field.with_nullable(True) for field in schema], schema.metadata)
    columns = [
        pa.array(column, field.type)
        for column, field in zip(zip(*rows, strict=True), schema, strict=True)
    ]
    folder.mkdir(parents=True)
    pq.write_table(
        pa.table(columns, schema=schema), folder / "x.parquet", row_group_size=row_group_size
    )
    return str(folder)


def inspect(*datasets, **options):
    return inspect_dataset(InspectConfig(datasets=tuple(map(str, datasets)), **options))


def test_a_sound_dataset_has_no_problems_and_exact_figures(tmp_path):
    write(tmp_path / "d", GOOD_ROWS, alphabet="abnotw ")
    report = inspect(tmp_path / "d", batch_size=3)
    assert report.problems == ()
    found = report.sets["d"]
    assert (found.num_rows, found.num_rows_read, found.num_bad_rows) == (4, 4, 0)
    assert (found.num_files, found.num_row_groups) == (1, 2)
    assert found.schema["a"] == "string"
    assert found.positive_share == 0.5
    assert found.num_items == 4
    assert found.groups.num_groups == 2
    assert found.groups.largest_share == 0.5
    assert found.items_per_side_of_row_groups == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert found.lengths.mean == 5
    assert found.lengths.quantiles["1"] == 5
    assert sum(found.lengths.histogram) == 8
    assert found.alphabet.coverage == pytest.approx(1 - 4 / 40)  # The e of "one", four times.
    assert found.alphabet.missing == {"e": 4}
    assert (found.steps.num_steps, found.steps.last_batch) == (2, 1)


BAD_DATASETS = {
    "repeated": (
        [GOOD_ROWS[0], ("two a", "one a", 1, "A", "A"), GOOD_ROWS[1]],
        "1 pairs are there already",
    ),
    "self": ([*GOOD_ROWS, ("one a", "one a", 1, "A", "A")], "1 pairs are of an item with itself"),
    "mislabelled": ([*GOOD_ROWS, ("one a", "two b", 1, "A", "B")], "1 labels do not say whether"),
    "both labels": (
        [*GOOD_ROWS, ("one b", "one a", 1, "B", "A")],
        "1 pairs of the same two items have both labels",
    ),
    "one label": (GOOD_ROWS[::2], "all labels are 1"),
    "null": (
        [*GOOD_ROWS, (None, "x", 1, "A", "A")],
        r"1 rows cannot be used.*row group 2, row 0.*'a' is null",
    ),
    "label": (
        [*GOOD_ROWS, ("x", "y", 7, "A", "A")],
        r"1 rows cannot be used.*row group 2, row 0.*label is 7",
    ),
}


@pytest.mark.parametrize("name", BAD_DATASETS)
def test_what_is_wrong_within_a_set_is_found(tmp_path, name):
    rows, message = BAD_DATASETS[name]
    report = inspect(write(tmp_path / "d", rows))
    assert any(re.search("^d: " + message, problem) for problem in report.problems)
    assert "PROBLEM: d: " in str(report)


LEAKS = {
    "groups": (("three a", "four a", 1, "A", "A"), "share 1 groups, such as A"),
    "items": (("one a", "three a", 1, "A", "A"), "share 1 items"),
    "contents": (("One  A", "one e", 0, "F", "E"), "share 1 contents"),
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_sets_share_is_found(tmp_path, name):
    write(tmp_path / "train", GOOD_ROWS)
    write(tmp_path / "test", OTHER_ROWS)
    assert inspect(tmp_path).problems == ()
    row, message = LEAKS[name]
    balance = ("x", "y", 1 - row[2], "X", "Y" if row[2] else "X")
    write(tmp_path / "validation", [row, balance])
    report = inspect(tmp_path)
    assert list(report.sets) == ["train", "validation", "test"]
    assert len(report.leakage) == 3
    assert [x for x in report.problems if x.startswith("train and validation " + message)]
    assert not [x for x in report.problems if "test" in x]


def test_sets_split_by_item_may_share_groups_but_no_items(tmp_path):
    write(tmp_path / "train", GOOD_ROWS, split_by="item")
    write(
        tmp_path / "test",
        [("six a", "ten a", 1, "A", "A"), ("six a", "ten b", 0, "A", "B")],
        split_by="item",
    )
    assert inspect(tmp_path).problems == ()
    assert inspect(tmp_path).leakage[0].groups == 2
    assert "share 2 groups" in inspect(tmp_path, split_by="group").problems[0]
    write(
        tmp_path / "validation",
        [("one a", "ten c", 0, "A", "C"), ("a c", "ten c", 1, "C", "C")],
        split_by="item",
    )
    problems = inspect(tmp_path).problems
    assert "train and validation share 1 items" in problems


def test_contents_are_told_beside_items(tmp_path):
    write(tmp_path / "train", GOOD_ROWS)
    rows = [("one a", "ONE  A", 0, "A", "E"), ("ONE  A", "TWO  b", 1, "E", "E")]
    write(tmp_path / "test", rows)
    problems = inspect(tmp_path, split_by="item").problems
    assert "train and test share 1 items" in problems
    assert "train and test share 2 contents that count as the same" in problems


NOT_UTF8 = pa.StringArray.from_buffers(2, *pa.array([b"A", b"\xff"], pa.binary()).buffers()[1:])


@pytest.mark.parametrize("groups", [pa.array([{"name": "x"}] * 2), NOT_UTF8], ids=["dict", "utf8"])
def test_groups_that_cannot_be_read_are_a_problem(tmp_path, groups):
    table = pa.table({"a": ["x", "y"], "b": ["u", "v"], "label": [0, 1]})
    for name in ("group_a", "group_b"):
        table = table.append_column(name, groups)
    pq.write_table(table, tmp_path / "x.parquet")
    (problem,) = inspect(tmp_path).problems
    assert f"the groups cannot be read: {tmp_path}/x.parquet, row group 0: " in problem


@pytest.mark.parametrize(("num_ranks", "is_noted"), [(4, False), (5, True), (24, False)])
def test_ranks_that_the_streams_cannot_be_shared_out_to_are_noted(tmp_path, num_ranks, is_noted):
    notes = inspect(write(tmp_path / "d", GOOD_ROWS), num_ranks=num_ranks).notes
    assert is_noted == any("5 ranks do not share out 24 streams evenly" in x for x in notes)


def test_sets_that_differ_in_their_alphabet_are_found(tmp_path):
    write(tmp_path / "train", GOOD_ROWS)
    write(tmp_path / "test", OTHER_ROWS, alphabet="xyz")
    assert inspect(tmp_path).problems == ("the sets differ in alphabet",)


def test_a_corrupt_row_group_is_a_problem_and_the_rest_is_read(tmp_path):
    rows = [(f"text {i} {'x' * 50}", f"text {i + 1}", i % 2, None, None) for i in range(0, 400, 2)]
    path = Path(write(tmp_path / "d", rows, row_group_size=100)) / "x.parquet"
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(1).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 60] = b"\xff" * 60
    path.write_bytes(data)
    report = inspect(tmp_path / "d")
    assert report.sets["d"].num_bad_rows == 100
    assert any("row group 1" in problem for problem in report.problems)


def test_without_verify_a_large_set_is_sampled(tmp_path, monkeypatch):
    rows = [(f"a {i}", f"b {i}", i % 2, "A", "A" if i % 2 else "B") for i in range(1000)]
    rows[-1] = rows[-2]  # In the last row group, which the sample does not have.
    write(tmp_path / "d", rows, row_group_size=50)
    monkeypatch.setattr(inspection_module, "_MAX_ROWS", 300)
    report = inspect(tmp_path / "d")
    assert report.sets["d"].num_rows_read == 300
    assert report.problems == ()
    assert "300 rows; --verify reads every row" in str(report)
    assert "in the rows that were read" in str(report)
    report = inspect(tmp_path / "d", verify=True)
    assert report.sets["d"].num_rows_read == 1000
    assert "d: 1 pairs are there already, in this or the other order" in report.problems


def test_a_folder_of_sets_is_inspected_by_set_but_never_read_as_one(tmp_path):
    for name, rows in (("train", GOOD_ROWS), ("test", OTHER_ROWS)):
        write(tmp_path / name, rows)
    assert sorted(inspect(tmp_path).sets) == ["test", "train"]
    with pytest.raises(
        ValueError, match=r"holds the sets train, test\. Name one of them: .*/train"
    ):
        index_dataset(str(tmp_path))
    (tmp_path / "validation").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="validation leads nowhere"):
        inspect(tmp_path)
    (tmp_path / "validation").unlink()
    write(tmp_path / "dev", OTHER_ROWS)
    (tmp_path / "_logs").mkdir()
    with pytest.warns(UserWarning, match=r"Left out of .*none of the sets.*\(dev\)"):
        assert sorted(inspect(tmp_path).sets) == ["test", "train"]


def test_empty_texts_are_noted_and_secrets_in_older_files_are_not_shown(tmp_path):
    uri = "s3://key:secret@bucket/items?session_token=secret"
    write(tmp_path / "d", [*GOOD_ROWS, ("", "two b", 0, "A", "B")], items=uri)
    report = inspect(tmp_path / "d")
    assert "d: 1 sides are empty texts" in report.notes
    assert report.sets["d"].made_by["items"] == "s3://***@bucket/items?session_token=***"


def test_sets_that_no_mixture_may_hold_are_found(tmp_path):
    for name, number in (("one", np.uint8), ("two", np.float32)):
        pixels = np.arange(16, dtype=number).reshape(4, 4)
        storage = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 4)
        item = pa.fixed_shape_tensor(pa.from_numpy_dtype(number), (2, 2))
        images = pa.ExtensionArray.from_storage(item, storage)
        table = pa.table({"a": images, "b": images[::-1], "label": [0, 1, 0, 1]})
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "x.parquet")
    problems = inspect(tmp_path / "one", tmp_path / "two").problems
    assert "the sets differ in type of the items" in problems


def test_what_pairs_makes_has_no_problems(tmp_path):
    sizes = np.random.default_rng(0).integers(1, 30, size=120).tolist()
    config = MakingConfig(output=str(tmp_path / "out"), num_pairs=4000)
    made = make_pairs_of(texts_of(sizes), config, made_by={"command": "test"})
    report = inspect(tmp_path / "out", verify=True, num_ranks=5, batch_size=64)
    assert report.problems == ()
    for name, found in report.sets.items():
        assert found.num_items == made.sets[name].items
        assert found.groups.num_groups == made.sets[name].groups
        assert found.alphabet.coverage > 0.99
    train = report.sets["train"]
    assert train.steps.num_steps == 50
    assert train.steps.rows_per_rank.least == 134 + 3 * 133  # Streams 4, 9, 14, 19 of 24.
    assert train.steps.items_per_side < 0.8  # Of 64 pairs over 24 streams.
    assert train.items_per_side_of_row_groups < 0.5
    assert train.positive_share_of_row_groups.least > 0.48


def test_the_report_is_json_and_a_picture_too(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 5, 4, 3), np.uint8)
    source = ArrayItems(images_of(pixels), pa.array(np.arange(60) % 3).cast(pa.string()))
    config = MakingConfig(output=str(tmp_path / "out"), num_pairs=50, split_by="item")
    make_pairs_of(source, config, made_by={})
    write(tmp_path / "text", GOOD_ROWS)
    for folder in ("out", "text"):
        report = inspect(tmp_path / folder, plot=str(tmp_path / f"{folder}.png"))
        assert report.problems == ()
        assert (tmp_path / f"{folder}.png").read_bytes().startswith(b"\x89PNG")
        values = json.loads(report.to_json())
        assert values["problems"] == []
        assert set(values["sets"]) == set(report.sets)
    assert inspect(tmp_path / "out").sets["train"].schema["a"] == "uint8 image 5x4x3"
    with pytest.raises(UserError, match="The picture cannot be written"):
        inspect(tmp_path / "absent", plot=str(tmp_path / "no" / "folder.png"))  # Nothing is read.


@pytest.mark.parametrize(
    ("shape", "number"), [((5, 4), "uint8"), ((5, 4, 2), "float32"), ((6,), "float32")]
)
def test_tensors_of_any_shape_and_type_can_be_drawn(tmp_path, shape, number):
    values = np.random.default_rng(0).random((20, *shape)).astype(number)
    storage = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values[0].size)
    item = pa.fixed_shape_tensor(storage.type.value_type, shape)
    images = pa.ExtensionArray.from_storage(item, storage)
    table = pa.table({"a": images, "b": images[::-1], "label": [0, 1] * 10})
    with pq.ParquetWriter(tmp_path / "x.parquet", table.schema) as writer:
        writer.write_table(table[:0])  # A row group without rows.
        writer.write_table(table)
    inspect(tmp_path, plot=str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_items_of_every_kind_are_looked_over(tmp_path, sample):
    table = sample.table(10)  # Each pair twice.
    if "is a broken image" in sample.bad:
        table = sample.with_bad_row(table, 7, sample.bad["is a broken image"])
    pq.write_table(table, tmp_path / "1.parquet")
    report = inspect(tmp_path, verify=True, plot=str(tmp_path / "x.png"))
    (found,) = report.sets.values()
    assert (found.num_rows, found.num_items, found.num_self_pairs) == (10, 5, 0)
    assert found.num_bad_rows == ("is a broken image" in sample.bad)
    assert found.num_repeated_pairs == 5 - found.num_bad_rows
    assert (found.lengths is not None) == (found.kind == "text")


def test_pairs_of_two_kinds_are_looked_over(tmp_path):
    text, image = BY_NAME["text"], BY_NAME["image-files"]
    table = text.table(5).set_column(1, "b", image.table(5)["a"])
    pq.write_table(table, tmp_path / "1.parquet")
    (found,) = inspect(tmp_path, plot=str(tmp_path / "x.png")).sets.values()
    assert (found.kind, found.num_items) == ("text and image", 10)
    assert int(sum(found.lengths.histogram)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ()}, "`datasets` must name at least one"),
        ({"num_ranks": 25}, "more ranks than streams. Received: num_ranks=25, num_streams=24"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"plot": "x.jpg"}, "`plot` must name a PNG file"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        InspectConfig(**{"datasets": ("d",), **options})


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such dataset"):
        inspect(tmp_path / "absent")
    folder = write(tmp_path / "d", GOOD_ROWS)
    with pytest.raises(UserError, match="can be given once"):
        inspect(folder, folder)


def test_sets_in_a_bucket_are_inspected_without_telling_the_secret(bucket, object_store):
    folder = make_uri("pairs", object_store)
    with pytest.warns(UserWarning, match=r"Left out of s3://\*\*\*@pairs.*\(items\.csv\)"):
        report = inspect_dataset(InspectConfig(datasets=(folder,)))
    assert list(report.sets) == ["train"]
    assert report.sets["train"].num_rows == 21
    assert list(inspect_dataset(InspectConfig(datasets=(bucket,))).sets) == ["train"]
    assert "s3://***@pairs/train?" in str(report)
    assert "secret" not in str(report) + report.to_json()
    with pytest.raises(ValueError, match="can be given once") as refused:
        inspect_dataset(InspectConfig(datasets=(bucket, bucket)))
    assert "secret" not in str(refused.value)


def test_a_store_that_cannot_be_reached_is_said():
    with pytest.raises(StorageError, match=r"s3://\*\*\*@pairs.* cannot be reached: .*") as refused:
        inspect_dataset(InspectConfig(datasets=(make_uri("pairs", "127.0.0.1:1"),)))
    assert "secret" not in str(refused.value)
