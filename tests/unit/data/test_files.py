"""One rule says which files a folder holds, for items and for pair datasets, and what it leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from sharedlayers_dist.data.index import index_dataset
from sharedlayers_dist.data.making.items import FileItems
from sharedlayers_dist.errors import UserError
from tests.object_store import make_bucket, make_uri


class Items:
    """Labelled items in CSV."""

    ending = ".csv"

    def write(self, path: Path, num_rows: int = 1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text,who\n" + "hi,ann\n" * num_rows)

    def count(self, uri: str) -> int:
        source = FileItems(uri, column="text", group="who")
        return sum(len(batch.items) for batch in source.iter_batches())


class Pairs:
    """A pair dataset in Parquet."""

    ending = ".parquet"

    def write(self, path: Path, num_rows: int = 1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({"a": ["x"] * num_rows, "b": ["y"] * num_rows, "label": [1] * num_rows})
        pq.write_table(table, path)

    def count(self, uri: str) -> int:
        return index_dataset(uri).num_rows


both = pytest.mark.parametrize("data", [Items(), Pairs()], ids=["items", "pairs"])


def write_tree(data, folder):
    """Files of 1, 2, 4 and 8 rows, of which the last lies where other programs put markers."""
    for number, name in enumerate(["one", "below/two", "below/it/three", "_partial/four", ".five"]):
        data.write(folder / (name + data.ending), 1 << number)
    return str(folder)


@both
def test_folders_below_are_read_and_hidden_names_are_not(data, tmp_path):
    assert data.count(write_tree(data, tmp_path)) == 1 + 2 + 4


@both
def test_a_bucket_is_read_like_a_folder(data, tmp_path, object_store):
    write_tree(data, tmp_path)
    (tmp_path / "below" / "notes.md").write_text("mine")
    name = f"tree{data.ending.replace('.', '-')}"
    fs.copy_files(str(tmp_path), name, destination_filesystem=make_bucket(name, object_store))
    with pytest.warns(UserWarning, match=r"Left out.*below/notes\.md") as said:
        assert data.count(make_uri(name, object_store)) == 1 + 2 + 4
    assert "secret" not in str(said[0].message)


@both
def test_what_does_not_look_like_data_is_left_out_and_named(data, tmp_path):
    write_tree(data, tmp_path)
    for number in range(5):
        (tmp_path / "below" / f"notes-{number}.md").write_text("mine")
    with pytest.warns(
        UserWarning, match=r"^Left out .*: 5 files .*below/notes-0.md.*\.\.\."
    ) as said:
        assert data.count(str(tmp_path)) == 7
    assert len(said) == 1


@both
def test_links_are_followed_once_and_loops_end(data, tmp_path):
    write_tree(data, tmp_path / "elsewhere")
    data.write(tmp_path / f"single{data.ending}", 8)
    folder = tmp_path / "folder"
    data.write(folder / "real" / f"a{data.ending}", 16)
    (folder / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (folder / f"z{data.ending}").symlink_to(tmp_path / f"single{data.ending}")
    (folder / "again").symlink_to(folder / "real")  # There already, under its own name.
    (folder / "real" / "up").symlink_to(folder)
    assert data.count(str(folder)) == 7 + 8 + 16
    (tmp_path / "link").symlink_to(folder)
    assert data.count(str(tmp_path / "link")) == 7 + 8 + 16


@both
@pytest.mark.parametrize("ending", [True, False], ids=["file", "folder"])
def test_a_broken_link_is_refused(data, tmp_path, ending):
    write_tree(data, tmp_path)
    link = tmp_path / "below" / ("gone" + data.ending * ending)
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"gone.*leads nowhere"):
        data.count(str(tmp_path))
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(UserError, match=r"gone.*leads nowhere"):
        data.count(str(tmp_path))


@both
def test_a_folder_that_may_not_be_read_is_refused(data, tmp_path):
    write_tree(data, tmp_path)
    closed = tmp_path / "below" / "closed"
    closed.mkdir()
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    closed.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # Root may read everything.
    try:
        with pytest.raises(UserError, match=r"cannot be listed.*below/closed"):
            data.count(str(tmp_path))
    finally:
        os.seteuid(user)
        closed.chmod(0o700)


@both
def test_a_name_of_data_that_is_no_file_is_refused(data, tmp_path):
    write_tree(data, tmp_path)
    os.mkfifo(tmp_path / f"pipe{data.ending}")
    with pytest.raises(UserError, match=r"pipe.*neither a file nor a folder"):
        data.count(str(tmp_path))


def test_empty_text_files_are_left_out_and_named(tmp_path):
    write_tree(Items(), tmp_path)
    (tmp_path / "part-7.jsonl").touch()
    with pytest.warns(UserWarning, match=r"1 file that is empty.*part-7\.jsonl"):
        assert Items().count(str(tmp_path)) == 7
    (tmp_path / "single.csv").touch()
    with pytest.raises(UserError, match=r"single\.csv.*is empty"):
        Items().count(str(tmp_path / "single.csv"))


@both
@pytest.mark.parametrize("uri", ["s3://", "a\0b"])
def test_a_path_that_is_none_is_told_in_a_line(data, uri):
    with pytest.raises(UserError, match="cannot be listed") as refused:
        data.count(uri)
    assert "\n" not in str(refused.value)


def test_an_empty_parquet_file_is_refused(tmp_path):
    for data in (Items(), Pairs()):
        folder = tmp_path / data.ending
        write_tree(data, folder)
        (folder / "z.parquet").touch()
        with pytest.raises(UserError, match=r"z\.parquet"):
            data.count(str(folder))


def test_a_folder_of_other_files_says_which_it_holds(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    for data, wanted in ((Items(), ".csv"), (Pairs(), ".parquet")):
        with pytest.raises(UserError, match=rf"\{wanted}.*1 file .*x\.txt"):
            data.count(str(tmp_path))


@both
def test_an_own_folder_may_be_written_with_a_tilde(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tree(data, tmp_path / "mine")
    assert data.count("~/mine") == 7


@pytest.mark.parametrize(("data", "column"), [(Items(), "who"), (Pairs(), "label")])
def test_a_column_in_the_name_of_a_folder_is_pointed_at(data, column, tmp_path):
    path = tmp_path / f"{column}=0" / f"x{data.ending}"
    path.parent.mkdir()
    if data.ending == ".csv":
        path.write_text("text\nhi\n")
    else:
        pq.write_table(pa.table({"a": ["x"], "b": ["y"]}), path)
    with pytest.raises(UserError, match=rf"'{column}' is in the name of the folder '{column}=0'"):
        data.count(str(tmp_path))


def test_an_optional_column_in_the_name_of_a_folder_is_said_not_to_be_read(tmp_path):
    for weight in (1, 2):
        Pairs().write(tmp_path / "kind=x" / f"weight={weight}" / "x.parquet", 2)
    with pytest.warns(UserWarning, match=r"names of folders are not read, such as 'weight=1'"):
        assert Pairs().count(str(tmp_path)) == 4
