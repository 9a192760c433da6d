"""A pair dataset is made whole: what its files hold, how they are cut, and what stops it."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharedlayers_dist.config import MakingConfig, PairsConfig
from sharedlayers_dist.data.index import index_dataset
from sharedlayers_dist.data.making import items as items_module
from sharedlayers_dist.data.making import writer as writer_module
from sharedlayers_dist.data.making.chaining import RUN_LENGTH
from sharedlayers_dist.data.making.items import ArrayItems
from sharedlayers_dist.data.making.make_pairs import make_pairs, make_pairs_of
from sharedlayers_dist.data.making.writer import count_row_groups
from sharedlayers_dist.data.order.options import OrderOptions
from sharedlayers_dist.data.reading.dataset_plan import plan_dataset
from sharedlayers_dist.data.schema import read_metadata
from sharedlayers_dist.errors import UserError
from tests.unit.data.making.test_items import images_of

SETS = ("train", "validation", "test")


def texts_of(sizes):
    """Texts that name their group and place; group g has sizes[g] of them."""
    rows = [
        (f"Text {place} of ☃{group}", f"g{group}")
        for group, size in enumerate(sizes)
        for place in range(size)
    ]
    texts, groups = zip(*rows, strict=True)
    return ArrayItems(pa.array(texts), pa.array(groups))


SIZES = np.random.default_rng(0).integers(1, 30, size=120).tolist()


def make(output, source=None, **options):
    options = {"num_pairs": 3000, **options}
    config = MakingConfig(output=str(output), **options)
    return make_pairs_of(source or texts_of(SIZES), config, made_by={"command": "test"})


def rows_of(folder):
    return pq.read_table(folder).to_pylist()


def digest_of(folder):
    files = sorted(Path(folder).rglob("*.parquet"))
    return [(str(x.relative_to(folder)), sha256(x.read_bytes()).hexdigest()) for x in files]


def test_the_sets_hold_the_pairs_that_were_asked_for(tmp_path):
    summary = make(tmp_path / "out")
    groups_of_set = {}
    for name, num_pairs in zip(SETS, (2400, 300, 300), strict=True):
        rows = rows_of(tmp_path / "out" / name)
        assert len(rows) == summary.sets[name].pairs == num_pairs
        assert sum(row["label"] for row in rows) == num_pairs // 2
        assert len({frozenset((row["a"], row["b"])) for row in rows}) == num_pairs
        for row in rows:
            assert row["a"] != row["b"]
            assert row["label"] == (row["group_a"] == row["group_b"])
            assert row["a"].endswith("☃" + row["group_a"][1:])
            assert row["b"].endswith("☃" + row["group_b"][1:])
        groups_of_set[name] = {row[side] for row in rows for side in ("group_a", "group_b")}
        assert summary.sets[name].groups == len(groups_of_set[name])
    assert not groups_of_set["train"] & groups_of_set["validation"]
    assert not groups_of_set["train"] & groups_of_set["test"]
    assert not groups_of_set["validation"] & groups_of_set["test"]
    assert sorted(x.name for x in tmp_path.rglob("*") if x.is_dir()) == ["out", *sorted(SETS)]


def test_the_files_have_the_schema_and_the_alphabet_of_the_training_set(tmp_path):
    make(tmp_path / "out")
    train = rows_of(tmp_path / "out" / "train")
    counts = Counter("".join(row["a"] + row["b"] for row in train))
    expected = "".join(sorted(counts, key=lambda x: (-counts[x], ord(x))))[:256]
    for name in SETS:
        schema = pq.read_schema(tmp_path / "out" / name / "part-00000.parquet")
        assert schema.names == ["a", "b", "label", "group_a", "group_b"]
        assert schema.field("a").type == pa.string()
        assert schema.field("label").type == pa.int8()
        metadata = read_metadata(schema)
        assert metadata is not None
        assert metadata.kind == "text"
        assert metadata.alphabet == expected
        assert metadata.made_by["command"] == "test"
        assert metadata.made_by["pairs"] == {"train": 2400, "validation": 300, "test": 300}


def test_the_result_depends_on_items_and_seed_alone(tmp_path, monkeypatch):
    make(tmp_path / "first")
    make(tmp_path / "other", seed=1)
    monkeypatch.setattr(items_module, "ROWS_PER_BATCH", 100)
    monkeypatch.setattr(writer_module, "_MAX_PARTS", 2)
    num_threads = pa.cpu_count()
    pa.set_cpu_count(num_threads + 1)
    try:
        make(tmp_path / "again")
    finally:
        pa.set_cpu_count(num_threads)
    assert digest_of(tmp_path / "first") == digest_of(tmp_path / "again")
    assert digest_of(tmp_path / "first") != digest_of(tmp_path / "other")


def test_batches_in_file_order_share_items_and_mix_groups(tmp_path):
    make(tmp_path / "out", texts_of([20] * 400), num_pairs=40_000)
    rows = rows_of(tmp_path / "out" / "train")
    for start in range(0, 32_000, 4000):
        batch = rows[start : start + 256]
        items = {row[side] for row in batch for side in "ab"}
        groups = {row[side] for row in batch for side in ("group_a", "group_b")}
        assert len(items) < 0.5 * 2 * len(batch)
        assert len(groups) > 12


def test_shuffled_batches_share_items_and_mix_groups_and_labels(tmp_path):
    make(tmp_path / "out", texts_of([20] * 400), num_pairs=40_000)
    rows = rows_of(tmp_path / "out" / "train")
    index = index_dataset(str(tmp_path / "out" / "train"))
    assert index.run_length == RUN_LENGTH
    plan = plan_dataset(index, OrderOptions(seed=0, batch_size=256, num_streams=24), epoch=0)
    for step in range(0, 125, 25):
        batch = [rows[row] for row in plan.rows_of_step(step)]
        assert len({row[side] for row in batch for side in "ab"}) < 0.6 * 2 * len(batch)
        groups = {row[side] for row in batch for side in ("group_a", "group_b")}
        assert len(groups) > 100  # Of 320.
        assert abs(sum(row["label"] for row in batch) - 128) <= 12


def test_the_seed_chooses_the_pairs_too_and_not_the_split_alone(tmp_path):
    for seed in (0, 1):
        make(tmp_path / str(seed), seed=seed, validation_share=0.0, test_share=0.0)
    assert digest_of(tmp_path / "0") != digest_of(tmp_path / "1")
    pairs = [{frozenset((r["a"], r["b"])) for r in rows_of(tmp_path / x / "train")} for x in "01"]
    assert len(pairs[0] & pairs[1]) < 0.5 * len(pairs[0])


def test_large_sets_are_cut_into_files_of_24_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_MAX_ROWS", 16)
    monkeypatch.setattr(writer_module, "_MIN_ROWS", 4)
    monkeypatch.setattr(writer_module, "_MAX_PARTS", 3)
    make(tmp_path / "out")
    files = sorted((tmp_path / "out" / "train").iterdir())
    row_groups = [pq.read_metadata(x) for x in files]
    assert [x.num_row_groups for x in row_groups] == [24] * 7  # 2400 / (24 * 16) rounded up.
    sizes = [x.row_group(i).num_rows for x in row_groups for i in range(24)]
    assert sum(sizes) == 2400
    assert max(sizes) - min(sizes) <= 2
    assert len({frozenset((r["a"], r["b"])) for r in rows_of(tmp_path / "out" / "train")}) == 2400


@pytest.mark.parametrize(
    ("num_pairs", "num_row_groups"),
    [(1, 1), (64, 1), (65, 2), (1535, 24), (1536, 24), (16_000, 24), (49_152, 24), (49_153, 48)],
)
def test_row_groups_come_in_multiples_of_24_unless_they_would_get_tiny(num_pairs, num_row_groups):
    assert count_row_groups(num_pairs, 80) == num_row_groups


def test_a_row_group_of_large_images_stays_small():
    num_pairs, photo = 10_000, 256 * 256 * 3
    assert num_pairs / count_row_groups(num_pairs, photo) * 2 * photo <= 64 << 20


def test_images_can_be_split_by_item(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (300, 3, 3, 1), np.uint8)
    pixels[10:20] = pixels[0:10]  # The same images again: some of the same group, some not.
    groups = pa.array(np.arange(300) % 4).cast(pa.string())
    source = ArrayItems(images_of(pixels), groups)
    make(tmp_path / "out", source, num_pairs=400, split_by="item")
    images = {}
    for name in SETS:
        table = pq.read_table(tmp_path / "out" / name)
        assert table.schema.field("a").type == source.item_type
        metadata = read_metadata(table.schema)
        assert metadata is not None
        assert metadata.alphabet is None
        sides = [table[side].combine_chunks().to_numpy_ndarray() for side in "ab"]
        images[name] = {image.tobytes() for side in sides for image in side}
        assert set(table["group_a"].to_pylist()) == set("0123")
    assert sum(map(len, images.values())) == len(set.union(*images.values()))
    assert len(set.union(*images.values())) > 200


def test_equal_texts_are_left_out_within_groups_and_between_sets(tmp_path):
    texts = [f"own {place} of {group}" for group in range(40) for place in range(6)]
    texts += ["Good  morning"] * 40 + ["good morning"] * 40
    groups = [f"{group}" for group in range(40) for _ in range(6)]
    groups += [f"{group}" for _ in range(2) for group in range(40)]
    summary = make(tmp_path / "out", ArrayItems(pa.array(texts), pa.array(groups)), num_pairs=400)
    assert summary.repeated_items == 40
    assert 4 <= summary.items_in_several_sets <= 12  # Those of 20% of 40 groups.
    assert "left out: 40 items that their group has already" in str(summary)
    for name in SETS:
        rows = rows_of(tmp_path / "out" / name)
        assert all(row["a"].lower().split() != row["b"].lower().split() for row in rows)
        has_it = any("morning" in row["a"] + row["b"] for row in rows)
        assert has_it == (name == "train")


def test_too_many_pairs_are_refused_and_the_most_can_be_made(tmp_path):
    source = texts_of([4] * 20)
    with pytest.raises(UserError, match=r"num_pairs=1000, 80 items") as error:
        make(tmp_path / "out", source, num_pairs=1000)
    (most,) = map(int, re.findall(r"At most (\d+) pairs", str(error.value)))
    assert 240 <= most < 245  # 16 groups of 4 have 96 positives; half of 80% are positives.
    with pytest.raises(UserError, match=rf"At most {most} pairs .* Ask for fewer pairs"):
        make(tmp_path / "out", source, num_pairs=most + 1)
    with pytest.raises(UserError, match=r"each set needs one.* Ask for more pairs"):
        make(tmp_path / "out", source, num_pairs=3)
    assert not (tmp_path / "out").exists()
    for name, num_pairs in (("most", most), ("default", None)):  # 5 for each item would be 400.
        made = make(tmp_path / name, source, num_pairs=num_pairs)
        assert sum(x.pairs for x in made.sets.values()) == most


def test_no_items_at_all_are_refused(tmp_path):
    (tmp_path / "items.csv").write_text("text,who\n,ann\n")
    config = PairsConfig(
        items=str(tmp_path / "items.csv"),
        text="text",
        group="who",
        output=str(tmp_path / "out"),
        on_bad_row="skip",
    )
    with pytest.raises(UserError, match=r"0 rows with .*, and 1 without .*-row error says"):
        make_pairs(config)


def test_too_few_groups_for_three_sets_are_refused(tmp_path):
    for num_pairs in (30, None):
        with pytest.raises(UserError, match=r"two\. Give more items and groups, .*--split-by"):
            make(tmp_path / "out", texts_of([10, 10]), num_pairs=num_pairs)
    summary = make(tmp_path / "out", texts_of([10, 10]), num_pairs=10, split_by="item")
    assert summary.sets["test"].pairs == 1


def test_a_set_without_a_share_is_not_made(tmp_path):
    summary = make(tmp_path / "out", validation_share=0.0, test_share=0.3)
    assert {name: x.pairs for name, x in summary.sets.items()} == {"train": 2100, "test": 900}
    assert sorted(x.name for x in (tmp_path / "out").iterdir()) == ["test", "train"]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", num_pairs=100)  # An empty folder is taken.
    with pytest.raises(UserError, match="Nothing is overwritten"):
        make(tmp_path / "out", num_pairs=100)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="Nothing is overwritten"):
        make(tmp_path / "file", num_pairs=100)
    assert (tmp_path / "file").read_text() == "mine"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="Nothing is overwritten"):
        make(tmp_path / "pipe", num_pairs=100)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    make(tmp_path / "link", num_pairs=100)
    assert sorted(x.name for x in (tmp_path / "elsewhere").iterdir()) == sorted(SETS)


class UnreadItems(ArrayItems):
    """Items that nobody should have begun to read."""

    def iter_batches(self):
        pytest.fail("the items are read")


def test_an_output_that_cannot_be_made_is_refused_before_the_items_are_read(tmp_path):
    (tmp_path / "file").write_text("mine")
    unread = UnreadItems(pa.array(["a"]), pa.array(["x"]))
    with pytest.raises(UserError, match="cannot be made"):
        make(tmp_path / "file" / "below", unread)
    with pytest.raises(UserError, match="cannot be made"):
        make(tmp_path / ("x" * 300), unread)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_is_full_is_told_in_a_line_and_nothing_is_left(tmp_path):
    rows = [f"text {place} of {group},{group}\n" for group in range(30) for place in range(30)]
    (tmp_path / "items.csv").write_text("text,who\n" + "".join(rows))
    pairs = "-m sharedlayers_dist pairs --items items.csv --text text --group who --output out"
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 20; exec {sys.executable} {pairs}"],  # No file of over 20 kB.
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "The output folder cannot be written. Received: output='out'" in done.stderr
    assert [x.name for x in tmp_path.iterdir()] == ["items.csv"]


def test_what_another_wrote_meanwhile_is_not_overwritten(tmp_path):
    class SlowItems(ArrayItems):
        def iter_batches(self):
            yield from super().iter_batches()
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / "file").write_text("mine")

    whole = texts_of(SIZES)
    with pytest.raises(UserError, match=r"cannot be written.*not empty"):
        make(tmp_path / "out", SlowItems(whole.items, whole.groups))
    assert [str(x.relative_to(tmp_path)) for x in tmp_path.rglob("*")] == ["out", "out/file"]


class InterruptedItems(ArrayItems):
    """Items whose second pass is interrupted in the middle."""

    passes = 0

    def iter_batches(self):
        self.passes += 1
        for batch in super().iter_batches():
            yield batch
            if self.passes == 2:
                raise KeyboardInterrupt


def test_an_interrupted_run_leaves_nothing(tmp_path):
    whole = texts_of(SIZES)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "out", InterruptedItems(whole.items, whole.groups))
    assert not list(tmp_path.iterdir())


class GrowingItems(ArrayItems):
    """Items that are more at the second pass."""

    passes = 0

    def iter_batches(self):
        self.passes += 1
        for _ in range(self.passes):
            yield from super().iter_batches()


def test_items_that_change_meanwhile_are_an_error(tmp_path):
    whole = texts_of(SIZES)
    with pytest.raises(RuntimeError, match="changed while they were being read"):
        make(tmp_path / "out", GrowingItems(whole.items, whole.groups))


def test_pairs_are_made_of_a_file(tmp_path):
    source = texts_of(SIZES)
    with open(tmp_path / "items.csv", "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "who", "text"])
        for number, row in enumerate(
            zip(source.groups.to_pylist(), source.items.to_pylist(), strict=True)
        ):
            rows.writerow([number, *row])
        rows.writerow([number + 1, "", "nobody's"])
    config = PairsConfig(
        items=str(tmp_path / "items.csv"),
        output=str(tmp_path / "a"),
        text="text",
        group="who",
        num_pairs=3000,
    )
    with pytest.raises(UserError, match="'who' is null or empty"):
        make_pairs(config)
    summary = make_pairs(replace(config, on_bad_row="skip"))
    assert summary.bad_rows == 1
    make(tmp_path / "b", source)
    for name in SETS:
        assert rows_of(tmp_path / "a" / name) == rows_of(tmp_path / "b" / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": ""}, "Exactly one of `item`, `text` and `image`"),
        ({"image": "x"}, "Exactly one of .* Received: item='', text='t', image='x', group='g'"),
        ({"item": "x", "group": ""}, "Exactly one of `item`, `text` and `image`"),
        ({"group": ""}, "`group` must name the column"),
        ({"text": "", "item": "g"}, "`group` must be another column"),
        ({"items": ""}, "`items` must not be empty"),
        ({"output": "s3://bucket/x"}, "`output` must name a local folder"),
        ({"num_pairs": 0}, "`num_pairs` must be at least 1. Received: num_pairs=0"),
        ({"positive_share": 1.5}, "`positive_share` must lie between 0 and 1"),
        ({"validation_share": 0.5, "test_share": 0.5}, "leave something for training"),
        ({"seed": -1}, "`seed` must not be negative"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        PairsConfig(**{"items": "a.csv", "text": "t", "group": "g", "output": "o", **options})
