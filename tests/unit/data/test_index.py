"""What the footers of a dataset say, and what is refused."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.config import InspectConfig
from sharedlayers_dist.data import (
    DatasetIndex,
    ItemColumn,
    index_dataset,
    inspect_dataset,
    resolve_alphabet,
)
from sharedlayers_dist.data.schema import METADATA_KEY
from sharedlayers_dist.world import World
from tests.object_store import make_uri
from tests.unit.data.samples import (
    image_table,
    open_pairs,
    text_table,
    with_column,
    write_dataset,
)


def write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return str(path.parent)


def test_an_index_lists_files_and_row_groups_in_the_order_of_their_names(tmp_path):
    write_dataset(tmp_path, [[3, 2], [], [4]])
    index = index_dataset(str(tmp_path))
    assert [f.name for f in index.files] == [f"part-0000{i}.parquet" for i in range(3)]
    assert index.row_counts.tolist() == [3, 2, 4]
    assert index.row_starts.tolist() == [0, 3, 5, 9]
    assert index.num_rows == 9
    assert index.a == index.b == ItemColumn(kind="text", dtype="str")
    assert (index.has_groups, index.has_weight) == (True, False)


def test_an_index_tells_where_a_row_lies(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[3, 2], [], [4]]))
    places = [str(index.place_of_row(row)) for row in (0, 4, 5)]
    assert places == [
        f"{tmp_path}/part-00000.parquet, row group 0, row 0",
        f"{tmp_path}/part-00000.parquet, row group 1, row 1",
        f"{tmp_path}/part-00002.parquet, row group 0, row 0",
    ]


def test_images_have_a_shape_and_a_type(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[2]], image_table))
    assert index.a == index.b == ItemColumn(kind="image", shape=(3, 2, 1), dtype="uint8")


@pytest.mark.parametrize(
    ("labels", "options", "only"),
    [
        ([[1, 1], [1, 1, None]], {}, 1),
        ([[0], []], {}, 0),
        ([[True, True], [True]], {}, 1),
        ([[1, 1], [1, 0]], {}, None),
        ([[1, 1], [0, 0]], {}, None),
        ([[1], [1]], {"write_statistics": ["a"]}, None),  # The footers do not say.
        ([[None], [None]], {}, None),
    ],
)
def test_the_footers_tell_of_pairs_of_one_label(tmp_path, labels, options, only):
    kind = pa.bool_() if labels[0][0] is True else pa.int16()
    for number, of_file in enumerate(labels):
        texts = pa.array(["a"] * len(of_file), pa.string())
        table = pa.table({"a": texts, "b": texts, "label": pa.array(of_file, kind)})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=1, **options)
    assert index_dataset(str(tmp_path)).only_label == only


def test_an_index_survives_pickle_and_json(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[3], [4]], alphabet='a"\0é😀'))
    assert pickle.loads(pickle.dumps(index)) == index
    again = DatasetIndex.from_json(json.loads(json.dumps(index.to_json())))
    assert again == index
    assert again.fingerprint == index.fingerprint


def test_the_fingerprint_changes_with_names_and_rows_but_not_with_the_place(tmp_path):
    first = index_dataset(write_dataset(tmp_path / "x", [[3], [4]]))
    moved = index_dataset(write_dataset(tmp_path / "y", [[3], [4]]))
    other = index_dataset(write_dataset(tmp_path / "z", [[3, 4]]))
    assert first.fingerprint == moved.fingerprint != other.fingerprint
    (tmp_path / "y" / "part-00001.parquet").rename(tmp_path / "y" / "part-00002.parquet")
    assert index_dataset(moved.uri).fingerprint != first.fingerprint


def test_files_come_in_the_order_of_their_names_whatever_the_case_of_their_endings(tmp_path):
    for name in ("x/1.parquet", "2.PARQUET"):
        write(tmp_path / name, text_table(2))
    (tmp_path / "_SUCCESS").touch()
    assert [f.name for f in index_dataset(str(tmp_path)).files] == ["2.PARQUET", "x/1.parquet"]


def test_a_dataset_below_a_hidden_folder_is_read(tmp_path):
    assert index_dataset(write_dataset(tmp_path / ".cache" / "pairs", [[2]])).num_rows == 2


def test_a_single_file_may_have_any_name(tmp_path):
    write(tmp_path / "pairs.data", text_table(2))
    assert index_dataset(str(tmp_path / "pairs.data")).files[0].name == "pairs.data"


def test_a_file_uri_is_the_same_dataset_as_its_path(tmp_path):
    path = write_dataset(tmp_path, [[3], [4]])
    by_uri = index_dataset(f"file://{path}")
    assert by_uri.files == index_dataset(path).files
    assert by_uri.fingerprint == index_dataset(path + "/").fingerprint


@pytest.mark.parametrize("label", [pa.bool_(), pa.uint8(), pa.int64()])
@pytest.mark.parametrize("text", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_datasets_of_other_programs_are_read(tmp_path, label, text):
    table = pa.table(
        {
            "label": pa.array([1, 0]).cast(label),
            "b": pa.array(["x", "y"]).cast(text),
            "extra": [1.5, 2.5],
            "a": pa.array(["v", "w"]).cast(text),
        }
    )
    index = index_dataset(write(tmp_path / "1.parquet", table))
    assert (index.kind, index.metadata, index.has_groups) == ("text", None, False)


def test_files_may_store_texts_differently(tmp_path):
    write(tmp_path / "1.parquet", text_table(2))
    table = with_column(text_table(2), "a", ["x", "y"], pa.large_string())
    write(tmp_path / "2.parquet", with_column(table, "b", ["x", "y"], pa.large_string()))
    assert index_dataset(str(tmp_path)).num_rows == 4


def test_of_a_file_without_rows_the_columns_do_not_matter(tmp_path):
    write(tmp_path / "0.parquet", pa.table({"a": pa.nulls(0), "b": pa.nulls(0)}))
    write(tmp_path / "1.parquet", text_table(2, run_length=2))
    write(tmp_path / "2.parquet", image_table(0))
    index = index_dataset(str(tmp_path))
    assert [file.row_counts for file in index.files] == [(0,), (2,), (0,)]
    assert (index.kind, index.run_length) == ("text", 2)
    assert resolve_alphabet(index) == "01ab"
    report = inspect_dataset(InspectConfig(datasets=(str(tmp_path),)))
    assert report.sets[tmp_path.name].schema["a"] == "string"


TEXT = text_table(2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            TEXT.drop_columns("label"),
            r"needs one column named 'label'\. Its columns: 'a' \(string\)",
        ),
        (TEXT.drop_columns("a"), "needs one column named 'a'"),
        (with_column(TEXT, "a", [1, 2]), r"column 'a' must hold text .* 'a' \(int64\)"),
        (
            with_column(TEXT, "label", [0.0, 1.0]),
            r"'label' must be of an integer .*'label' \(double",
        ),
        (with_column(TEXT, "label", ["0", "1"]), r"'label' must be of an integer"),
        (with_column(TEXT, "weight", ["1", "2"]), "'weight' must hold numbers"),
        *(
            (pa.table([*TEXT.columns, ones, ones], [*TEXT.column_names, name, name]), message)
            for name in ("weight", "group_a", "group_b")
            for ones in [pa.array([1, 1])]
            for message in [f"at most one column named '{name}'"]
        ),
        (TEXT.replace_schema_metadata({METADATA_KEY: b"{"}), "metadata under 'sharedlayers'"),
        (TEXT.replace_schema_metadata({METADATA_KEY: b'{"size": 1}'}), "metadata under"),
        (
            TEXT.replace_schema_metadata({METADATA_KEY: b'{"kind": "text", "run_length": 0}'}),
            r"at least 1\. Received: run_length=0",
        ),
        (
            TEXT.replace_schema_metadata({METADATA_KEY: b'{"kind": "text", "alphabet": "aba"}'}),
            r"be different characters\. Received: alphabet='aba'",
        ),
        (
            TEXT.replace_schema_metadata({METADATA_KEY: b'{"kind": "text", "made_by": "me"}'}),
            r"must be an object\. Received: made_by='me'",
        ),
        (
            TEXT.replace_schema_metadata({METADATA_KEY: b'{"kind": "image"}'}),
            r"metadata must fit its columns\. Received: kind='image'",
        ),
    ],
)
def test_a_file_with_unusable_columns_is_refused_in_one_line(tmp_path, table, message):
    write(tmp_path / "1.parquet", table)
    with pytest.raises(ValueError, match=message) as refused:
        index_dataset(str(tmp_path))
    assert "1.parquet" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (image_table(2), "kind='image' in column 'a' of .*/2.parquet, kind='text' in .*/1.parquet"),
        (with_column(TEXT, "weight", [1.0, 2.0]), "has_weight=True in .*/2.parquet"),
        (
            text_table(2, alphabet="ab"),
            "alphabet='ab' in .*/2.parquet, alphabet=None in .*/1.parquet",
        ),
        (
            text_table(2, run_length=8),
            "run_length=8 in .*/2.parquet, run_length=1 in .*/1.parquet",
        ),
    ],
)
def test_files_that_disagree_are_refused(tmp_path, second, message):
    write(tmp_path / "1.parquet", TEXT)
    write(tmp_path / "2.parquet", second)
    with pytest.raises(ValueError, match=message):
        index_dataset(str(tmp_path))


def test_images_of_two_shapes_are_refused(tmp_path):
    write(tmp_path / "1.parquet", image_table(2, shape=(3, 2, 1)))
    write(tmp_path / "2.parquet", image_table(2, shape=(2, 3, 1)))
    with pytest.raises(ValueError, match=r"item_shape=\(2, 3, 1\) in .*/2.parquet"):
        index_dataset(str(tmp_path))


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    write(tmp_path / "1.parquet", TEXT)
    write(tmp_path / "2.parquet", TEXT)
    whole = (tmp_path / "2.parquet").read_bytes()
    (tmp_path / "2.parquet").write_bytes(whole[:keep])
    with pytest.raises(ValueError, match=r"/2\.parquet cannot be read as Parquet") as refused:
        index_dataset(str(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "missing", "no such dataset: .*missing"),
        (lambda p: p, "at least one file named"),
        (lambda p: write_dataset(p, [[0], []]), "0 rows"),
        (lambda p: "s4://bucket/x", "Received: 's4://bucket/x'"),
    ],
)
def test_a_dataset_without_pairs_is_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        index_dataset(str(make(tmp_path)))


def test_a_thousand_footers_are_read(tmp_path):
    write_dataset(tmp_path, [[1]] * 1000)
    index = index_dataset(str(tmp_path))
    assert index.row_counts.tolist() == [1] * 1000
    assert index.file_of_group(999)[0].name == "part-00999.parquet"


def test_a_dataset_in_a_bucket_is_read_like_a_folder(bucket):
    index = index_dataset(bucket)
    assert [file.name for file in index.files] == ["part-00000.parquet", "part-00001.parquet"]
    reader = open_pairs(
        index,
        alphabet=resolve_alphabet(index),
        batch_size=4,
        seed=0,
        num_streams=4,
        world=World(rank=1, size=2),
    )
    rows = np.concatenate([batch.rows for batch in reader.batches(0)])
    planned = [step.rows for step in reader.reading.plan(0).iter_steps(rank=1, size=2)]
    assert rows[rows >= 0].tolist() == np.concatenate(planned).tolist()


@pytest.mark.parametrize("path", ["pairs/missing", "no-such-bucket/train"])
def test_what_is_not_there_is_said_without_the_secret(bucket, object_store, path):
    with pytest.raises(ValueError, match=f"no such dataset: s3://\\*\\*\\*@{path}") as refused:
        index_dataset(make_uri(path, object_store))
    assert "secret" not in str(refused.value)
