"""One contract for a folder on a disk and one on a real S3 server."""

import itertools

import pytest
from pyarrow import fs

from sharedlayers_dist.storage import object_store as object_store_module
from sharedlayers_dist.storage.folder import LocalFolder, RemoteFolder, open_folder
from tests.object_store import Way, make_bucket, make_uri

_numbers = itertools.count()


@pytest.fixture(params=["disk", "file URI", "S3"])
def uri(request, tmp_path):
    """Of a folder that does not exist yet."""
    if request.param == "disk":
        return str(tmp_path / "deep" / "run")
    if request.param == "file URI":
        return (tmp_path / "deep" / "run").as_uri()
    address = request.getfixturevalue("object_store")
    make_bucket("runs", address)
    return make_uri(f"runs/deep/run-{next(_numbers)}", address)


@pytest.fixture
def folder(uri):
    return open_folder(uri)


def test_what_is_written_is_read_and_replaced(folder):
    folder.write("a.txt", b"first, and longer")
    folder.write("b/c/d.txt", b"deep")
    folder.write("a.txt", b"second")
    folder.write("empty", b"")
    assert folder.read("a.txt") == b"second"
    assert folder.read("b/c/d.txt") == b"deep"
    assert folder.read("empty") == b""
    assert folder.names() == ["a.txt", "b", "empty"]
    assert folder.names("b") == ["c"]


def test_what_is_not_there_is_said_so(folder):
    for name in ("a.txt", "b/c.txt"):
        with pytest.raises(FileNotFoundError):
            folder.read(name)
    assert folder.names() == []
    assert folder.names("b/c") == []
    folder.remove("a.txt")
    folder.remove("b/c")
    folder.flush("a.txt")
    folder.clean()
    assert folder.names() == []


def test_lines_are_added_and_last_after_a_flush(folder, uri):
    folder.write("log", b"one\n")
    folder.append("log", b"two\n")
    folder.append("log", b"three\n")
    folder.flush("log")
    assert open_folder(uri).read("log") == b"one\ntwo\nthree\n"
    folder.append("log", b"four\n")
    folder.flush("log")
    folder.flush("log")
    assert open_folder(uri).read("log") == b"one\ntwo\nthree\nfour\n"


def test_lines_are_added_to_a_file_that_is_not_there(folder, uri):
    folder.write("config", b"")  # Makes the run folder, as a run does.
    folder.append("log", b"one\n")
    folder.flush("log")
    assert open_folder(uri).read("log") == b"one\n"


def test_lines_are_added_to_what_was_written_meanwhile(folder, uri):
    folder.write("log", b"one\n")
    folder.append("log", b"two\n")
    folder.flush("log")
    folder.write("log", b"new\n")
    folder.append("log", b"three\n")
    folder.flush("log")
    assert open_folder(uri).read("log") == b"new\nthree\n"


def test_a_published_folder_takes_the_place_of_the_one_before(folder):
    folder.publish("all/x", {"old": [b"1"], "manifest.json": [b"2"]})
    large = bytes(range(256)) * 50_000  # More than S3's client sends in one part.
    pieces = [large[:5], b"", memoryview(large)[5:]]
    folder.publish("all/x", {"new": pieces, "manifest.json": [b"3"]})
    assert folder.names("all") == ["x"]
    assert folder.names("all/x") == ["manifest.json", "new"]
    assert folder.read("all/x/new") == large
    assert folder.read("all/x/manifest.json") == b"3"


def test_what_is_removed_leaves_the_rest(folder):
    folder.publish("all/x", {"data": [b"1"], "manifest.json": [b"2"]})
    folder.publish("all/xy", {"data": [b"1"], "manifest.json": [b"2"]})
    folder.write("all/file", b"")
    folder.remove("all/x")
    folder.remove("all/file")
    assert folder.names("all") == ["xy"]
    assert folder.names("all/xy") == ["data", "manifest.json"]
    with pytest.raises(FileNotFoundError):
        folder.read("all/x/data")


def test_a_half_removed_folder_can_be_removed(folder):
    """Without its manifest, as an interrupted removal leaves it."""
    folder.write("all/x/data", b"1")
    folder.remove("all/x")
    assert folder.names("all") == []


def test_what_begins_with_a_dot_is_not_finished(folder):
    folder.write("all/seen", b"")
    folder.write("all/.hidden", b"")
    assert folder.names("all") == ["seen"]


def test_cleaning_removes_leftovers_alone(tmp_path):
    folder = LocalFolder(tmp_path)
    folder.publish("all/x", {"manifest.json": [b""]})
    folder.write("all/.keep", b"")
    folder.write("all/.y.partial/data", b"")
    folder.write("all/.z.removed/data", b"")
    (tmp_path / "all" / ".w.partial").write_bytes(b"half")
    folder.clean("all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [".keep", "x"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    folder = LocalFolder(tmp_path)
    folder.write("file", b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        folder.write("folder", b"new")  # A folder is in the way, after the contents are written.
    with pytest.raises(FileExistsError):
        folder.publish("file/x", {"manifest.json": [b""]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert folder.read("file") == b"old"


def test_the_name_for_people_has_no_keys(object_store):
    folder = open_folder(make_uri("runs/x", object_store))
    assert isinstance(folder, RemoteFolder)
    assert str(folder) == "s3://***@runs/x"


def objects_of(folder):
    """Names within the folder and contents of all objects in a store."""
    path, store = folder.locate()
    found = store.get_file_info(fs.FileSelector(path, recursive=True))
    return {
        info.path.removeprefix(f"{path}/"): store.open_input_stream(info.path).read()
        for info in found
        if info.is_file
    }


@pytest.fixture
def remote(object_store):
    make_bucket("runs", object_store)
    return open_folder(make_uri(f"runs/growing-{next(_numbers)}", object_store))


def test_a_flush_to_a_store_sends_what_is_new(remote):
    remote.write("log", b"one\n")
    for line in (b"two\n", b"three\n"):
        remote.append("log", line)
        remote.flush("log")
        remote.flush("log")
    part = ".log.parts/{:016d}".format
    assert objects_of(remote) == {"log": b"one\n", part(4): b"two\n", part(8): b"three\n"}
    assert remote.read("log") == b"one\ntwo\nthree\n"
    remote.append("log", b"four\n")
    remote.close("log")
    assert objects_of(remote) == {"log": b"one\ntwo\nthree\nfour\n"}
    remote.close("log")
    remote.append("log", b"five\n")
    remote.flush("log")
    assert remote.read("log") == b"one\ntwo\nthree\nfour\nfive\n"


def test_many_parts_become_one_object(remote, monkeypatch):
    monkeypatch.setattr(object_store_module, "_MOST_PARTS", 3)
    for number in range(7):
        remote.append("log", b"%d" % number)
        remote.flush("log")
    assert objects_of(remote) == {"log": b"012345", ".log.parts/0000000000000006": b"6"}
    assert remote.read("log") == b"0123456"


def test_parts_that_a_kill_has_left_do_not_count_twice(remote):
    """A merge, and a cut to fewer lines, each killed before it could remove the parts."""
    for line in (b"one\n", b"two\n", b"three\n"):
        remote.append("log", line)
        remote.flush("log")
    assert remote.names() == ["log"]  # Although there are parts alone.
    remote._write("log", [b"one\ntwo\nthree\n"])
    assert remote.read("log") == b"one\ntwo\nthree\n"
    remote._write("log", [b"one\n2"])
    assert remote.read("log") == b"one\n2"
    remote.write("log", b"new\n")
    assert objects_of(remote) == {"log": b"new\n"}
    remote.append("log", b"more\n")
    remote.flush("log")
    remote.remove("log")
    assert objects_of(remote) == {}


def test_a_flush_that_failed_is_made_up_for(object_store):
    make_bucket("runs", object_store)
    path = f"runs/growing-{next(_numbers)}"
    with Way(object_store) as way:
        cut = open_folder(make_uri(path, way.address))
        cut.append("log", b"one\n")
        cut.flush("log")
        cut.append("log", b"two\n")
        way.is_cut = True
        with pytest.raises(OSError, match="runs"):
            cut.flush("log")
        cut.append("log", b"three\n")
        way.is_cut = False
        cut.close("log")
    assert open_folder(make_uri(path, object_store)).read("log") == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("uri", ["nonsense://key:secret@place", "s3://key:secret@x?a=b"])
def test_a_uri_that_means_nothing_is_refused_without_its_keys(uri):
    with pytest.raises(ValueError, match="that pyarrow knows") as refused:
        open_folder(uri)
    assert "secret" not in str(refused.value)


def test_a_bucket_that_is_not_there_is_an_error(object_store):
    with pytest.raises(OSError, match="no-such-bucket"):
        open_folder(make_uri("no-such-bucket/run", object_store)).write("a", b"")
