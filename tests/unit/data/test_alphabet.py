"""The alphabet of a training set."""

import subprocess
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharedlayers_dist.data import index_dataset, make_alphabet, resolve_alphabet
from sharedlayers_dist.errors import UserError
from tests.unit.data.samples import image_table, text_table, with_column, write_dataset


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=8))
def test_the_most_frequent_characters_come_first_and_ties_by_code_point(texts):
    counts = Counter("".join(texts))
    expected = sorted(counts, key=lambda character: (-counts[character], character))[:5]
    assert make_alphabet([pa.array(texts, pa.string())], 5) == "".join(expected)


def test_the_alphabet_depends_on_neither_the_order_nor_the_cut_of_the_texts():
    texts = ["wer", "weiß", "é😀", "\0\0"]
    alphabet = make_alphabet([pa.array(texts)])
    assert alphabet == make_alphabet([pa.array([text]) for text in reversed(texts)])
    assert alphabet == "\0ewirßé😀"


def test_at_most_256_characters_are_taken():
    every = "".join(chr(c) for c in range(0x100, 0x300))
    assert make_alphabet([pa.array([every])]) == every[:256]


def test_a_stored_alphabet_is_used_as_it_is(tmp_path):
    index = index_dataset(write_dataset(tmp_path, [[5]], alphabet="zyx\0"))
    assert resolve_alphabet(index) == "zyx\0"


@pytest.mark.parametrize(
    ("num_stored", "size", "num_taken"),
    [(300, 256, 256), (300, 300, 300), (100, 256, 100), (256, 300, 300), (300, 301, 301)],
)
def test_a_stored_alphabet_is_used_where_it_has_all_characters_or_enough(
    tmp_path, num_stored, size, num_taken
):
    characters = [chr(code) for code in range(0x400, 0x400 + 400)]  # The texts' own, in order.
    stored = "".join(reversed(characters[:num_stored]))
    table = text_table(1, alphabet=stored)
    for side in "ab":
        table = with_column(table, side, ["".join(characters)])
    pq.write_table(table, tmp_path / "1.parquet")
    expected = stored if num_taken <= num_stored else "".join(characters)
    assert resolve_alphabet(index_dataset(str(tmp_path)), size) == expected[:num_taken]


def test_of_pairs_with_other_items_the_texts_alone_are_counted(tmp_path):
    table = pa.table({"a": [[1, 2]], "b": ["baa"], "label": [1]})
    pq.write_table(table, tmp_path / "1.parquet")
    assert resolve_alphabet(index_dataset(str(tmp_path))) == "ab"


def test_without_a_stored_one_both_columns_of_all_files_are_counted(tmp_path):
    for name, a in (("1", ["aaa"]), ("2", ["cc"])):
        table = with_column(text_table(1), "a", a)
        pq.write_table(with_column(table, "b", ["bb"]), tmp_path / f"{name}.parquet")
    assert resolve_alphabet(index_dataset(str(tmp_path))) == "bac"


def test_texts_that_are_not_utf8_are_left_to_the_reader(tmp_path):
    bad = pa.array([b"aab", b"\xff", None], pa.binary())
    texts = pa.StringArray.from_buffers(3, bad.buffers()[1], bad.buffers()[2], bad.buffers()[0])
    pq.write_table(pa.table({"a": texts, "b": texts, "label": [1, 0, 1]}), tmp_path / "1.parquet")
    assert resolve_alphabet(index_dataset(str(tmp_path))) == "ab"


def test_images_have_no_alphabet(tmp_path):
    with pytest.raises(ValueError, match="whose items are images"):
        resolve_alphabet(index_dataset(write_dataset(tmp_path, [[1]], image_table)))


@pytest.fixture
def damaged(tmp_path):
    """A dataset of two row groups, the first of which is corrupt."""
    table = text_table(100, first=100)
    with pq.ParquetWriter(tmp_path / "part-00000.parquet", table.schema) as writer:
        writer.write_table(with_column(text_table(100), "a", ["x"] * 100).cast(table.schema))
        writer.write_table(table)
    index = index_dataset(str(tmp_path))
    file = tmp_path / "part-00000.parquet"
    content = bytearray(file.read_bytes())
    content[4:40] = bytes(36)
    file.write_bytes(content)
    return index


def test_a_file_damaged_within_is_named(damaged):
    with pytest.raises(UserError, match=r"part-00000\.parquet, row group 0: it cannot be read"):
        resolve_alphabet(damaged)


def test_a_corrupt_row_group_is_left_out_where_bad_rows_are_skipped(damaged):
    alphabet = resolve_alphabet(damaged, on_bad_row="skip")
    assert sorted(alphabet) == list("0123456789ab")  # Not the first row group's x.


HANGING = """
import os, sys
from sharedlayers_dist.data import index_dataset, resolve_alphabet
from sharedlayers_dist.storage import bounded_reads
bounded_reads.wait_for_read.__kwdefaults__["limit_seconds"] = 5.0
index = index_dataset(sys.argv[1])
os.unlink(index.files[1].path)
os.mkfifo(index.files[1].path)  # Opening it blocks until somebody writes.
resolve_alphabet(index)
"""


def test_a_read_that_hangs_ends_the_process_and_is_named(tmp_path):
    """In a process of its own, which must end in spite of the thread that is blocked."""
    folder = write_dataset(tmp_path, [[5], [5]])
    ended = subprocess.run(
        [sys.executable, "-c", HANGING, folder], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    *_, line = ended.stderr.strip().splitlines()
    assert "must not take longer than 5 seconds" in line
    assert f"{tmp_path}/part-00001.parquet" in line
