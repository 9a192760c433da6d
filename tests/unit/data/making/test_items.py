"""Items are read from every format, and what is wrong with a row is said with its place."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.data import files as files_module
from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.index import index_dataset
from sharedlayers_dist.data.making import items as items_module
from sharedlayers_dist.data.making.items import ArrayItems, FileItems
from sharedlayers_dist.data.reading.row_groups import RowGroupLoader
from sharedlayers_dist.data.schema import shape_of, to_numpy

ROWS = [("hello, you\n😀", "ann"), ('say "hi"', "bob"), ("ünder the sea", "ann")]


def write(path, rows=ROWS, columns=("text", "who")):
    """Writes rows to a file in the format of its extension."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv")):
        separator = "," if name.endswith("csv") else "\t"
        quoted = [separator.join('"' + x.replace('"', '""') + '"' for x in row) for row in rows]
        content = "\n".join([separator.join(columns), *quoted]) + "\n"
    elif name.endswith(".jsonl"):
        content = "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
    else:
        values = {column: [row[i] for row in rows] for i, column in enumerate(columns)}
        pq.write_table(pa.table(values), path, row_group_size=2)
        return str(path)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def read(path, **options):
    source = FileItems(path, column="text", group="who", **options)
    batches = list(source.iter_batches())
    return [
        (text, group)
        for items, groups in batches
        for text, group in zip(items.to_pylist(), groups.to_pylist(), strict=True)
    ]


@pytest.mark.parametrize(
    "name", ["a.csv", "a.CSV", "a.tsv", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz"]
)
def test_all_formats_give_the_same_items(tmp_path, name):
    assert read(write(tmp_path / name)) == ROWS


def test_a_uri_and_a_folder_are_read(tmp_path):
    write(tmp_path / "1.csv")
    write(tmp_path / "2.parquet", ROWS[:1])
    (tmp_path / "notes.txt").write_text("not items")
    assert read(tmp_path.as_uri()) == read(str(tmp_path)) == [*ROWS, ROWS[0]]


def test_a_source_can_be_read_again_and_in_any_batches(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", ROWS * 5)
    source = FileItems(path, column="text", group="who")
    assert [len(x.items) for x in source.iter_batches()] == [15]
    monkeypatch.setattr(items_module, "ROWS_PER_BATCH", 4)
    assert [len(x.items) for x in source.iter_batches()] == [4, 4, 4, 3]
    assert read(path) == ROWS * 5


def test_integers_are_taken_as_groups(tmp_path):
    rows = [("a", 1), ("b", 10**15)]
    expected = [("a", "1"), ("b", "1000000000000000")]
    assert read(write(tmp_path / "a.jsonl", rows)) == expected
    assert read(write(tmp_path / "a.parquet", rows)) == expected


def test_a_byte_order_mark_and_empty_lines_are_no_part_of_the_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufefftext,who\r\nhi,ann\r\n\r\nyo,bob\r\n".encode())
    assert read(str(path)) == [("hi", "ann"), ("yo", "bob")]


BAD_ROWS = [
    ("a.csv", "text,who\nhi,ann\n,bob\nyo,bob\n", r"row 2 \(line 3\).*'text' is null or empty"),
    ("a.csv", 'text,who\n"h\ni",ann\nyo, \n', r"row 2 \(line 4\).*'who' is null or empty"),
    ("a.csv", "text,who\nhi,ann\nhi\n", r"row 2 \(line 3\).*1 fields where the header has 2"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n{"text": null, "who": "ann"}\n', "row 2.*'text'"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n{"text": "hi"}\n', "row 2.*no column 'who'"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n{"text": \n', "row 2.*not JSON"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n7\n', "row 2.*not a JSON object"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n{"text": 7, "who": "a"}\n', "row 2.*holds int"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n{"text": "\\ud83d", "who": "a"}\n', "row 2.*surr"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n' + 100_000 * "[" + "\n", "row 2.*not JSON"),
    # Bytes that are not UTF-8.
    ("a.csv", "text,who\nhi,ann\nhi,\udcff\nyo,bob\n", r"row 2 \(line 3\).*'who' is not UTF-8"),
    ("a.jsonl", '{"text": "hi", "who": "ann"}\n{"text": "\udce9", "who": "a"}', "row 2.*not UTF-8"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_ROWS)
def test_a_bad_row_is_named_or_skipped_and_counted(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(ValueError, match=f"{name}, {message}"):
        read(str(path))
    source = FileItems(str(path), column="text", group="who", on_bad_row="skip")
    for _ in range(2):  # The count is that of one pass.
        assert next(source.iter_batches()).groups[0].as_py() == "ann"
        list(source.iter_batches())
        assert source.num_bad_rows == 1


def test_a_null_in_parquet_is_named_or_skipped(tmp_path):
    path = write(
        tmp_path / "a.parquet", [("a", "x"), ("b", "x"), ("c", None), (None, "y"), (" ", "y")]
    )
    with pytest.raises(ValueError, match=r"a.parquet, row 3: column 'who' is null"):
        read(path)
    source = FileItems(path, column="text", group="who", on_bad_row="skip")
    assert sum(len(x.items) for x in source.iter_batches()) == 2
    assert source.num_bad_rows == 3


def test_bytes_in_parquet_that_are_not_utf8_are_named_or_skipped(tmp_path):
    def texts(*encoded):
        array = pa.array(encoded, pa.binary())
        return pa.StringArray.from_buffers(len(array), *array.buffers()[1:])

    columns = {"text": texts(b"a", b" ", b"\xff", b"d"), "who": texts(b"x", b"x", b"", b"\xc3")}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 2: column 'text' is null or empty"):
        read(str(tmp_path / "a.parquet"))
    source = FileItems(str(tmp_path / "a.parquet"), column="text", group="who", on_bad_row="skip")
    assert [x.items.to_pylist() for x in source.iter_batches()] == [["a"]]
    assert source.num_bad_rows == 3
    pq.write_table(pa.table(columns).slice(2), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet, row 1: column 'text' is not UTF-8"):
        read(str(tmp_path / "b.parquet"))


def test_texts_in_any_of_arrows_layouts_are_read(tmp_path):
    for number, layout in enumerate((pa.large_string(), pa.string_view(), "dictionary")):
        texts, groups = (pa.array(column) for column in zip(*ROWS, strict=True))
        if layout == "dictionary":
            texts, groups = texts.dictionary_encode(), groups.dictionary_encode()
        else:
            texts, groups = texts.cast(layout), groups.cast(layout)
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"text": texts, "who": groups}), path)
        assert read(str(path)) == ROWS


@pytest.mark.parametrize("rows_per_group", [500, 20_000])
def test_of_a_file_little_is_in_memory_at_a_time(tmp_path, monkeypatch, rows_per_group):
    monkeypatch.setattr(items_module, "ROWS_PER_BATCH", 100)
    monkeypatch.setattr(files_module, "_BYTES_AHEAD", 1 << 20)
    table = pa.table({"text": [f"{n:01000}" for n in range(20_000)], "who": ["x"] * 20_000})
    path = str(tmp_path / "a.parquet")
    options = {"compression": "none", "use_dictionary": False}
    pq.write_table(table, path, row_group_size=rows_per_group, **options)
    del table
    before, most = pa.total_allocated_bytes(), 0
    for _ in FileItems(path, column="text", group="who").iter_batches():
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 6 << 20  # Of 20 MB.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.csv", "no such file"),
        ("a.txt", "Items are read from"),
        ("nothing", "no such file"),
        ("s4://bucket/a.csv", "cannot be reached"),
    ],
)
def test_what_is_no_item_file_is_refused(tmp_path, name, message):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=message):
        read(name if "://" in name else str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, name):
    if name == "a.csv":
        (tmp_path / name).write_text("text,text,who\na,b,c\n")
    else:
        table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "text", "who"])
        pq.write_table(table, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} has several columns 'text'"):
        read(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path, name):
    path = write(tmp_path / name, columns=("text", "author"))
    with pytest.raises(ValueError, match=r"no column 'who'.* text, author"):
        read(path)


def test_files_that_break_off_or_are_not_utf8_are_refused(tmp_path):
    whole = (tmp_path / "whole.parquet", tmp_path / "whole.csv.gz")
    for path in whole:
        write(path, ROWS * 1000)
        (tmp_path / f"half-{path.name}").write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="not a complete Parquet file"):
        read(str(tmp_path / "half-whole.parquet"))
    with pytest.raises(ValueError, match=r"half-whole.csv.gz cannot be read to its end"):
        read(str(tmp_path / "half-whole.csv.gz"))
    (tmp_path / "utf16.csv").write_text("text,who\nüber,ann\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"utf16.csv must be UTF-8"):
        read(str(tmp_path / "utf16.csv"))
    (tmp_path / "open.csv").write_text('text,who\n"never closed,ann\nhi,bob\n')
    with pytest.raises(ValueError, match=r"open.csv, line 3: not CSV"):
        read(str(tmp_path / "open.csv"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": [1, 2], "who": ["a", "b"]}, "'text': a text column must be of strings"),
        ({"text": ["x", "y"], "who": [1.5, 2.5]}, "'who': a group column must be of strings or"),
    ],
)
def test_a_column_of_another_type_is_refused(tmp_path, values, message):
    pq.write_table(pa.table(values), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=message):
        read(str(tmp_path / "a.parquet"))


def images_of(pixels):
    """Arrow images of the uint8 array `pixels` (n, H, W, C)."""
    storage = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), pixels[0].size)
    return pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.uint8(), pixels.shape[1:]), storage
    )


def test_images_are_read_from_parquet(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)
    table = pa.table({"image": images_of(pixels), "who": list("aabbccc")})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    source = FileItems(str(tmp_path / "a.parquet"), column="image", group="who", kind="image")
    batches = list(source.iter_batches())
    assert np.array_equal(np.concatenate([x.items.to_numpy_ndarray() for x in batches]), pixels)
    with pytest.raises(ValueError, match="must be of strings"):
        FileItems(
            str(tmp_path / "a.parquet"), column="image", group="who"
        ).iter_batches().__next__()
    write(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="fixed_shape_tensor of uint8"):
        FileItems(str(tmp_path / "b.parquet"), column="text", group="who", kind="image")


def test_images_stored_with_permuted_axes_are_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
    stored = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))  # Channels first.
    storage = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), 60)
    item = pa.fixed_shape_tensor(pa.uint8(), (3, 4, 5), permutation=[1, 2, 0])
    images = pa.ExtensionArray.from_storage(item, storage)
    pq.write_table(pa.table({"image": images, "who": list("aabbcc")}), tmp_path / "1.parquet")
    source = FileItems(str(tmp_path), column="image", group="who", kind="image")
    (batch,) = source.iter_batches()
    assert shape_of(source.item_type) == (4, 5, 3)
    assert np.array_equal(to_numpy(batch.items), pixels)
    assert np.array_equal(to_numpy(batch.items[1:3]), pixels[1:3])
    pairs = {"a": images, "b": images[::-1], "label": [0, 1] * 3}
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.table(pairs), tmp_path / "pairs" / "1.parquet")
    index = index_dataset(str(tmp_path / "pairs"))
    assert index.item_shape == (4, 5, 3)
    assert np.array_equal(RowGroupLoader(index).load(0).a, pixels)
    other = pa.table({"image": images_of(pixels), "who": list("aabbcc")})
    pq.write_table(other, tmp_path / "2.parquet")
    with pytest.raises(ValueError, match="All images must have one shape"):
        FileItems(str(tmp_path), column="image", group="who", kind="image")


def test_texts_are_the_same_but_for_case_and_spaces():
    texts = pa.array(
        ["Good  Morning", " good morning\n", "good\u00a0morning", "goodmorning", "É", "é"]
    )
    keys = content_keys(texts)
    assert [keys.tolist().index(key) for key in keys] == [0, 0, 0, 3, 4, 4]


def test_case_and_spaces_are_those_of_all_of_unicode():
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for other_case in (str.upper, str.lower):
        pairs = [
            (x, other_case(x)) for x in every if x != other_case(x) and len(other_case(x)) == 1
        ]
        ones, others = (content_keys(pa.array(side)) for side in zip(*pairs, strict=True))
        assert np.array_equal(ones, others)
    spaces = [character for character in every if character.isspace()]
    keys = content_keys(pa.array(["a b", *(f"a{space}b{space}" for space in spaces)]))
    assert len(spaces) > 25
    assert len(np.unique(keys)) == 1


def test_images_are_the_same_byte_for_byte_in_slices_too():
    pixels = np.zeros((4, 2, 2, 1), np.uint8)
    pixels[2, 1, 1, 0] = 1
    keys = content_keys(images_of(pixels))
    assert [keys.tolist().index(key) for key in keys] == [0, 0, 2, 0]
    assert np.array_equal(content_keys(images_of(pixels)[1:3]), keys[1:3])


def test_items_in_memory_come_in_batches(monkeypatch):
    monkeypatch.setattr(items_module, "ROWS_PER_BATCH", 2)
    source = ArrayItems(pa.array(["a", "b", "c"]), pa.array(["x", "x", "y"]))
    assert [x.items.to_pylist() for x in source.iter_batches()] == [["a", "b"], ["c"]]
