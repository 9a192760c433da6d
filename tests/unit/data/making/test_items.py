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
from sharedlayers_dist.data.items.tensors import to_numpy
from sharedlayers_dist.data.making import items as items_module
from sharedlayers_dist.data.making.items import ArrayItems, FileItems
from sharedlayers_dist.data.making.text_files import CODECS
from sharedlayers_dist.data.reading.row_groups import RowGroupLoader
from sharedlayers_dist.errors import UserError
from tests.unit.data.samples import codecs_for

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
    with pytest.warns(UserWarning, match=r"Left out .*1 file .*notes\.txt"):
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
    with pytest.raises(UserError, match=f"{name}, {message}"):
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
    with pytest.raises(UserError, match=r"a.parquet, row 3: column 'who' is null"):
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
    with pytest.raises(UserError, match=r"a.parquet, row 2: column 'text' is null or empty"):
        read(str(tmp_path / "a.parquet"))
    source = FileItems(str(tmp_path / "a.parquet"), column="text", group="who", on_bad_row="skip")
    assert [x.items.to_pylist() for x in source.iter_batches()] == [["a"]]
    assert source.num_bad_rows == 3
    pq.write_table(pa.table(columns).slice(2), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b.parquet, row 1: column 'text' is not UTF-8"):
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
        ("nothing", "at least one file named"),
        ("s4://bucket/a.csv", "must be one that pyarrow knows"),
    ],
)
def test_what_is_no_item_file_is_refused(tmp_path, name, message):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=message):
        read(name if "://" in name else str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, name):
    if name == "a.csv":
        (tmp_path / name).write_text("text,text,who\na,b,c\n")
    else:
        table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "text", "who"])
        pq.write_table(table, tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} has several columns 'text'"):
        read(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl"])
def test_a_missing_column_is_named_with_those_there_are(tmp_path, name):
    path = write(tmp_path / name, columns=("text", "author"))
    with pytest.raises(UserError, match=r"no column 'who'.* 'text', 'author'"):
        read(path)


def test_files_that_break_off_or_are_not_utf8_are_refused(tmp_path):
    whole = (tmp_path / "whole.parquet", tmp_path / "whole.csv.gz")
    for path in whole:
        write(path, ROWS * 1000)
        (tmp_path / f"half-{path.name}").write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match="not a complete Parquet file"):
        read(str(tmp_path / "half-whole.parquet"))
    with pytest.raises(UserError, match=r"half-whole.csv.gz, after line \d\S*: it cannot be read"):
        read(str(tmp_path / "half-whole.csv.gz"))
    (tmp_path / "utf16.csv").write_text("text,who\nüber,ann\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"utf16.csv must be UTF-8"):
        read(str(tmp_path / "utf16.csv"))
    (tmp_path / "open.csv").write_text('text,who\n"never closed,ann\nhi,bob\n')
    with pytest.raises(UserError, match=r"open.csv, row 1 \(line 2\): not CSV.*quote"):
        read(str(tmp_path / "open.csv"))


def damage(path, *, row_group, column):
    """Overwrites a column's pages of one row group."""
    place = pq.read_metadata(path).row_group(row_group).column(column)
    start = place.dictionary_page_offset or place.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    path.write_bytes(content)


def test_a_damaged_row_group_is_named_or_its_rows_are_skipped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(items_module, "ROWS_PER_BATCH", 2)
    rows = [(f"text {number}", "ann") for number in range(20)]
    table = pa.table({"text": [x for x, _ in rows], "who": [x for _, x in rows]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=5)
    write(tmp_path / "b.csv", rows[:1])
    damage(path, row_group=2, column=0)
    with pytest.raises(UserError, match=r"a\.parquet, row group 2: it cannot be read: .*skip"):
        read(str(tmp_path))
    source = FileItems(str(tmp_path), column="text", group="who", on_bad_row="skip")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"a\.parquet, row group 2: it is left out"):
            batches = list(source.iter_batches())
        found = [text for items, _ in batches for text in items.to_pylist()]
        assert found == [text for text, _ in (*rows[:10], *rows[15:], rows[0])]
        assert source.num_bad_rows == 5


def test_of_a_text_file_that_breaks_off_the_beginning_is_read_where_bad_rows_are_skipped(tmp_path):
    for name in ("a.csv.gz", "a.jsonl.gz"):
        path = tmp_path / name
        rows = [(f"text {number * number}", "ann") for number in range(20_000)]
        write(path, rows)
        path.write_bytes(path.read_bytes()[:-5000])
        with pytest.raises(UserError, match=rf"{name}, after line .*cannot be read.*complete"):
            read(str(path))
        with pytest.warns(UserWarning, match=rf"{name}, after line .*the rest of the file"):
            found = read(str(path), on_bad_row="skip")
        assert 1000 < len(found) < 20_000
        assert found == rows[: len(found)]
    (tmp_path / "b.csv.gz").write_bytes(path.read_bytes()[:20])
    write(tmp_path / "c.csv")
    (tmp_path / "a.csv.gz").unlink()
    path.unlink()
    with pytest.warns(UserWarning, match=r"b\.csv\.gz, after line 0"):
        assert read(str(tmp_path), on_bad_row="skip") == ROWS


@pytest.mark.parametrize("ending", CODECS)
def test_of_a_compressed_file_nothing_is_lost_without_a_word(tmp_path, ending):
    rows = [f"text {number * number},ann\n" for number in range(8000)]
    content = ("text,who\n" + "".join(rows)).encode()
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, CODECS[ending]) as stream:
        stream.write(content)
    whole = sink.getvalue().to_pybytes()
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(whole)
    assert len(read(str(path))) == len(rows)
    for size in (1, 10, len(whole) // 3, len(whole) - 5000, *range(len(whole) - 12, len(whole))):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"after line [\d,]+: it cannot be read: Truncated"):
            read(str(path))
        source = FileItems(str(path), column="text", group="who", on_bad_row="skip")
        with pytest.warns(UserWarning, match=r"after line [\d,]+: the rest of the file, which"):
            found = [text for batch in source.iter_batches() for text in batch.items.to_pylist()]
        assert found == [row.split(",")[0] for row in rows[: len(found)]]
        assert source.num_bad_rows == 1


@pytest.mark.parametrize("line", ['"x"y,ann', '"never closed,ann', '"a "quoted" word",ann'])
def test_a_line_that_is_no_csv_is_named_or_it_alone_is_skipped(tmp_path, line):
    path = tmp_path / "a.csv"
    path.write_text(f'text,who\none,ann\n{line}\ntwo,ann\n"thr\nee",ann\nfour,\n')
    with pytest.raises(UserError, match=r"a\.csv, row 2 \(line 3\): not CSV"):
        read(str(path))
    source = FileItems(str(path), column="text", group="who", on_bad_row="skip")
    (batch,) = source.iter_batches()
    assert batch.items.to_pylist() == ["one", "two", "thr\nee"]
    assert source.num_bad_rows == 2


def test_a_file_that_vanishes_is_no_damage(tmp_path):
    write(tmp_path / "a.csv")
    source = FileItems(str(tmp_path), column="text", group="who", on_bad_row="skip")
    (tmp_path / "a.csv").unlink()
    with pytest.raises(UserError, match=r"a\.csv.* cannot be read"):
        list(source.iter_batches())


ZIP = b"PK\x03\x04" + bytes(40)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text, who\nhi,ann\n", r"'text', ' who'.*Did you mean ' who'\?"),
        ("a.csv", b"Text,who\nhi,ann\n", r"'Text', 'who'.*Did you mean 'Text'\?"),
        ("a.csv", b"text;who\nhi;ann\n", r"one column.*semicolons.*header='text;who'"),
        ("a.csv", b"text\twho\nhi\tann\n", r"separated by tabs: name it \*\.tsv"),
        ("a.tsv", b"text,who\nhi,ann\n", r"separated by commas: name it \*\.csv"),
        ("a.csv", b'"text,who\nhi,ann\n', "the header is not CSV"),
        ("a.csv", b"\xe9,who\nhi,ann\n", "must be UTF-8, and its header is not"),
        ("a.json", b'[{"text": "hi", "who": "a"}]', r"one JSON object a line.*an array.*jq"),
        ("a.json", b'[\n {"text": "hi", "who": "a"}]', r"one JSON object a line.*an array.*jq"),
        ("a.json", b'{\n "text": "hi",\n "who": "a"}', r"one JSON object a line.*jq"),
        ("a.jsonl", b'{"Text": "hi", "who": "a"}', r"no column 'text'.*Did you mean 'Text'"),
        ("a.jsonl", b'{"text": "hi", "text": "a"}', r"row 1: not JSON \(several keys 'text'\)"),
        ("a.jsonl", '{"text": "hi", "who": "a"}'.encode("utf-16"), "UTF-16.*iconv"),
        ("a.csv", "text,who\nhi,ann\n".encode("utf-16-le"), "must be UTF-8.*UTF-16LE"),
        ("a.csv", b"hi,ann\nyo,bob\n", "Its columns by its first line: 'hi', 'ann'"),
        ("a.csv", ZIP, "zip archive or a spreadsheet"),
        ("a.csv", gzip.compress(b"text,who\n"), r"compressed by gzip. Name it \*\.gz"),
        ("a.csv.gz", b"text,who\nhi,ann\n", "a.csv.gz, after line 0: it cannot be read"),
        ("a.csv", b"PAR1....", r"a Parquet file. Name it \*\.parquet"),
        ("a.csv", b"<!DOCTYPE html>\n<p>Log in", "a web page"),
        ("a.parquet", b"text,who\nhi,ann\n", "is not a complete Parquet file"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_what_beginners_take_for_items_is_refused_with_a_remedy(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        read(str(tmp_path / name))
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": [1, 2], "who": ["a", "b"]}, "'text': a text column must be of strings"),
        ({"text": ["x", "y"], "who": [1.5, 2.5]}, "'who': a group column must be of strings or"),
    ],
)
def test_a_column_of_another_type_is_refused(tmp_path, values, message):
    pq.write_table(pa.table(values), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
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
    with pytest.raises(UserError, match="must be of strings"):
        FileItems(
            str(tmp_path / "a.parquet"), column="image", group="who"
        ).iter_batches().__next__()
    write(tmp_path / "b.parquet")
    with pytest.raises(UserError, match="an image column must hold images"):
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
    assert np.array_equal(to_numpy(batch.items), pixels)
    assert np.array_equal(to_numpy(batch.items[1:3]), pixels[1:3])
    pairs = {"a": images, "b": images[::-1], "label": [0, 1] * 3}
    (tmp_path / "_pairs").mkdir()
    pq.write_table(pa.table(pairs), tmp_path / "_pairs" / "1.parquet")
    index = index_dataset(str(tmp_path / "_pairs"))
    assert index.a.shape == (4, 5, 3)
    assert np.array_equal(RowGroupLoader(index, codecs_for(index)).load(0).a, pixels)
    other = pa.table({"image": images_of(pixels), "who": list("aabbcc")})
    pq.write_table(other, tmp_path / "2.parquet")
    with pytest.raises(UserError, match="All files of items must hold the same"):
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
