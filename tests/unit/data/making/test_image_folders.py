"""Pairs are made of folders of images, a group each; whatever else lies there is told."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from sharedlayers_dist.cli import main
from sharedlayers_dist.config import PairsConfig
from sharedlayers_dist.data import ImageFileCodec, index_dataset, make_pairs
from sharedlayers_dist.data.making import image_folders as folders_module
from sharedlayers_dist.data.making.image_folders import ImageFolderItems
from sharedlayers_dist.errors import UserError
from tests.object_store import make_bucket, make_uri
from tests.unit.data.items.samples import make_file
from tests.unit.data.making.test_items import write


def fill(folder, counts, ending="png"):
    """Writes a folder of images for each group; returns the bytes of all by their names."""
    rng = np.random.default_rng(0)
    files = {}
    for group, count in counts.items():
        for number in range(count):
            file_format = "PNG" if ending.lower() == "png" else "JPEG"
            content = make_file(rng.integers(0, 256, (8, 7, 3), np.uint8), file_format)
            files[f"{group}/{number}.{ending}"] = content
            (folder / group).mkdir(parents=True, exist_ok=True)
            (folder / group / f"{number}.{ending}").write_bytes(content)
    return files


def read(folder, **options):
    source = ImageFolderItems(str(folder), **options)
    batches = list(source.iter_batches())
    items = [item for batch in batches for item in batch.items.to_pylist()]
    groups = [group for batch in batches for group in batch.groups.to_pylist()]
    return items, groups, source.num_bad_rows


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG"])
def test_items_are_the_files_bytes_and_groups_the_folders(tmp_path, ending):
    files = fill(tmp_path, {"dogs": 3, "cats": 2}, ending)
    expected = [files[name] for name in sorted(files)]
    for folder in (tmp_path, tmp_path.as_uri()):
        assert read(folder) == (expected, ["cats"] * 2 + ["dogs"] * 3, 0)


def test_batches_are_bounded_by_their_bytes(tmp_path, monkeypatch):
    files = fill(tmp_path, {"a": 5, "b": 4})
    expected = read(tmp_path)
    monkeypatch.setattr(folders_module, "BYTES_PER_BATCH", 2 * max(map(len, files.values())))
    assert [len(batch.items) for batch in ImageFolderItems(str(tmp_path)).iter_batches()][:4] == [
        2
    ] * 4
    assert read(tmp_path) == expected


def test_hidden_files_are_passed_over_and_folders_within_groups_are_theirs(tmp_path):
    files = fill(tmp_path, {"cats": 2, "dogs": 2, "cats/black/large": 1, "_cache": 1, ".git": 1})
    (tmp_path / "cats" / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    items, groups, num_bad = read(tmp_path)
    assert (groups, num_bad) == (["cats"] * 3 + ["dogs"] * 2, 0)
    assert items[2] == files["cats/black/large/0.png"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("README.md", b"# Pets", "lies in no folder, whose name would be its group"),
        ("0.png", None, "lies in no folder, whose name would be its group"),
        ("cats/notes.txt", b"fluffy", "is no image: it does not end in .png, .jpg, .jpeg"),
        ("cats/9.gif", b"GIF89a", "is no image: it does not end in .png, .jpg, .jpeg"),
        ("cats/9.png", b"GIF89a", "is no PNG or JPEG image"),
        ("cats/9.png", b"", "is no PNG or JPEG image"),
        ("cats/9.png", "half", "is a broken image"),
        ("cats/\udcff.png", None, "has a name that is not UTF-8"),
    ],
)
def test_what_is_no_image_of_a_group_is_named_or_left_out(tmp_path, name, content, reason):
    files = fill(tmp_path, {"cats": 2, "dogs": 2})
    whole = files["cats/0.png"]
    content = {None: whole, "half": whole[: len(whole) // 2]}.get(content, content)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        read(tmp_path)
    told = str(refused.value)
    assert told.startswith(f"{tmp_path}/{name} {reason}")
    assert told.endswith("leave such files out with --on-bad-row skip.")
    items, groups, num_bad = read(tmp_path, on_bad_row="skip")
    assert (items, groups, num_bad) == (
        [files[name] for name in sorted(files)],
        ["cats", "cats", "dogs", "dogs"],
        1,
    )


def test_files_are_decoded_once_and_the_bad_ones_left_out_again(tmp_path, monkeypatch):
    fill(tmp_path, {"cats": 3, "dogs": 2})
    (tmp_path / "cats" / "1.png").write_bytes(b"GIF89a")
    (tmp_path / "README").write_bytes(b"x")
    source = ImageFolderItems(str(tmp_path), on_bad_row="skip")

    def read_all():
        return [item for batch in source.iter_batches() for item in batch.items.to_pylist()]

    first = read_all()
    monkeypatch.setattr(ImageFileCodec, "find_bad", lambda *_, **__: pytest.fail("decoded"))
    assert read_all() == read_all() == first
    assert (len(first), source.num_bad_rows) == (4, 2)


def test_a_folder_without_images_is_no_group_and_is_told(tmp_path):
    fill(tmp_path, {"cats": 2, "dogs": 2})
    (tmp_path / "mice").mkdir()
    (tmp_path / "rats" / "white").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"folders without a file, 2 in number: mice, rats\."):
        _, groups, num_bad = read(tmp_path)
    assert (set(groups), num_bad) == ({"cats", "dogs"}, 0)


def test_links_are_followed_and_one_that_leads_nowhere_is_refused(tmp_path):
    files = fill(tmp_path / "store", {"a": 2})
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cats").symlink_to(tmp_path / "store" / "a")
    assert read(tmp_path / "images")[:2] == (list(files.values()), ["cats", "cats"])
    (tmp_path / "images" / "cats" / "3.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"3\.png leads nowhere"):
        read(tmp_path / "images")


def test_what_is_no_folder_of_image_folders_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "data" / "more").mkdir(parents=True)
    data = tmp_path / "data" / "more" / "items.parquet"
    write(data)
    fill(tmp_path, {"flat": 2})
    for path in ("data", "data/more/items.parquet", "empty", "flat", "flat/0.png"):
        with pytest.raises(UserError, match=rf"GROUP/IMAGE\.png .*{path}', which has none.*--item"):
            ImageFolderItems(str(tmp_path / path))
    data.unlink()
    config = PairsConfig(
        items=str(tmp_path), item="image", group="who", output=str(tmp_path / "out")
    )
    with pytest.raises(UserError, match=r"2 files .*flat/0\.png.*folders, name no columns\.$"):
        make_pairs(config)
    with pytest.raises(UserError, match="There is no such folder of image folders"):
        ImageFolderItems(str(tmp_path / "absent"))


def test_sets_of_image_folders_are_not_taken_for_groups(tmp_path):
    fill(tmp_path, {"train/cats": 2, "train/dogs": 2, "val/cats": 2, "val/dogs": 1})
    with pytest.raises(UserError, match=r"one set of items.*holds the sets train, val with"):
        ImageFolderItems(str(tmp_path))
    assert read(tmp_path / "train")[1] == ["cats", "cats", "dogs", "dogs"]
    fill(tmp_path / "own", {"train": 2, "test": 1})  # Of railways, and of examinations.
    assert read(tmp_path / "own")[1] == ["test", "train", "train"]


def test_a_file_that_vanishes_or_may_not_be_read_is_no_bad_row(tmp_path):
    fill(tmp_path, {"cats": 2, "dogs": 2})
    source = ImageFolderItems(str(tmp_path), on_bad_row="skip")
    (tmp_path / "cats" / "1.png").unlink()
    with pytest.raises(UserError, match=r"cats/1\.png.* cannot be read"):
        list(source.iter_batches())


def test_pairs_are_made_of_image_folders_without_a_column(tmp_path, capfd):
    files = fill(tmp_path / "images", {f"pet {n}": 6 for n in range(12)})
    shutil.copy(tmp_path / "images/pet 1/1.png", tmp_path / "images/pet 1/copy.png")
    pairs = ["pairs", "--items", str(tmp_path / "images"), "--num-pairs", "60", "--output"]
    for name in ("one", "two"):
        with pytest.raises(SystemExit) as done:
            main([*pairs, str(tmp_path / name)])
        assert done.value.code in (None, 0)
        assert "left out: 1 items that their group has already" in capfd.readouterr().out
    name_of = {content: name for name, content in files.items()}
    for name in ("train", "validation", "test"):
        (one,), (two,) = (list((tmp_path / x / name).iterdir()) for x in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        for row in pq.read_table(one).to_pylist():
            groups = [name_of[row[side]].split("/")[0] for side in "ab"]
            assert groups == [row["group_a"], row["group_b"]]
            assert row["label"] == (groups[0] == groups[1])
        assert str(index_dataset(str(tmp_path / "one" / name)).a) == "images as files"


def test_image_folders_are_read_from_a_store(tmp_path, object_store):
    files = fill(tmp_path, {"cats": 3, "dogs": 3})
    (tmp_path / "README").write_text("x")
    store = make_bucket("images", object_store)
    fs.copy_files(str(tmp_path), "images/pets", destination_filesystem=store)
    config = PairsConfig(
        items=make_uri("images/pets", object_store),
        output=str(tmp_path / "out"),
        split_by="item",
        validation_share=0.0,
        test_share=0.0,
    )
    with pytest.raises(UserError, match="images/pets/README lies in no folder") as refused:
        make_pairs(config)
    assert "secret" not in str(refused.value)
    assert make_pairs(replace(config, on_bad_row="skip")).bad_rows == 1
    table = pq.read_table(tmp_path / "out" / "train")
    assert set(table["a"].to_pylist()) <= set(files.values())
