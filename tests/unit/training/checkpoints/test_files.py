"""What is written is what is read; what is damaged, in part or away is told apart."""

import hashlib
import json

import numpy as np
import pytest
import safetensors

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.folder import LocalFolder, open_folder
from sharedlayers_dist.training.checkpoints.files import (
    Checkpoint,
    DamagedCheckpointError,
    list_checkpoints,
    read_checkpoint,
    read_manifest,
    read_newest_checkpoint,
    step_of_name,
    write_checkpoint,
)
from sharedlayers_dist.training.checkpoints.manager import read_metrics
from tests.object_store import Way, make_bucket, make_uri
from tests.unit.training.checkpoints import samples
from tests.unit.training.checkpoints.samples import assert_is_whole, assert_still_good, write_two

FILES = ["manifest.json", "state.json", "tensors.safetensors"]


def make_checkpoint(step):
    tensors = {
        "model.00000": np.arange(6, dtype=np.float32).reshape(2, 3) + step,
        "model.00001": np.array(step, np.int64),
        "metrics.00000": np.array([0.1], np.float64),
    }
    return Checkpoint(step=step, tensors=tensors, state={"position": {"epoch": 1}, "한": "글"})


@pytest.fixture
def run(tmp_path):
    return LocalFolder(tmp_path)


def test_what_is_read_is_what_was_written(run):
    write_checkpoint(run, make_checkpoint(7), {"metrics": {"loss": 0.5}})
    assert list_checkpoints(run) == ["step-00000007"]
    assert read_manifest(run, "step-00000007")["metrics"] == {"loss": 0.5}
    read = read_checkpoint(run, "step-00000007")
    assert read.step == 7
    assert read.state == {"position": {"epoch": 1}, "한": "글"}
    for name, expected in make_checkpoint(7).tensors.items():
        assert read.tensors[name].dtype == expected.dtype
        np.testing.assert_array_equal(read.tensors[name], expected)
    assert [a.shape for a in read.part("model")] == [(2, 3), ()]


NOT_FINITE = {"best": float("inf"), "worst": [float("-inf"), {"deep": 1.5}], "not_finite": "NaN"}


def refuse(word):
    raise AssertionError(f"{word} is not JSON")


def test_numbers_that_are_not_finite_come_back_and_strict_parsers_read_the_files(run):
    state = {"callbacks": [NOT_FINITE, {"best": float("nan")}]}
    write_checkpoint(run, Checkpoint(step=7, tensors={}, state=state), {"metrics": NOT_FINITE})
    read = read_checkpoint(run, "step-00000007").state["callbacks"]
    assert read[0] == NOT_FINITE
    assert np.isnan(read[1]["best"])
    assert read_manifest(run, "step-00000007")["metrics"] == NOT_FINITE
    for file in ("state.json", "manifest.json"):
        text = (run.path / "checkpoints" / "step-00000007" / file).read_text()
        assert '{"not_finite":"Infinity"}' in "".join(text.split())
        json.loads(text, parse_constant=refuse)


def test_the_tensors_open_with_the_safetensors_library_alone(run):
    write_checkpoint(run, make_checkpoint(7), {})
    path = run.path / "checkpoints" / "step-00000007" / "tensors.safetensors"
    with safetensors.safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == set(make_checkpoint(7).tensors)


def remove_manifest(path):
    (path / "manifest.json").unlink()


def cut_manifest(path):
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text[: len(text) // 2])


def remove_tensors(path):
    (path / "tensors.safetensors").unlink()


def cut_tensors(path):
    content = (path / "tensors.safetensors").read_bytes()
    (path / "tensors.safetensors").write_bytes(content[:-1])


def flip_bit(path):
    content = bytearray((path / "tensors.safetensors").read_bytes())
    content[-3] ^= 1
    (path / "tensors.safetensors").write_bytes(content)


def change_state(path):
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"position": {"epoch": 2}}))


def remove_state(path):
    (path / "state.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        remove_manifest,
        cut_manifest,
        remove_tensors,
        cut_tensors,
        flip_bit,
        change_state,
        remove_state,
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(run, damage):
    write_checkpoint(run, make_checkpoint(1), {})
    write_checkpoint(run, make_checkpoint(2), {})
    damage(run.path / "checkpoints" / "step-00000002")
    with pytest.raises(DamagedCheckpointError, match="step-00000002"):
        read_checkpoint(run, "step-00000002")
    with pytest.warns(UserWarning, match="passed over: .*step-00000002"):
        newest = read_newest_checkpoint(run)
    assert newest is not None
    assert newest.step == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_manifest, r"manifest\.json: .*No such file"),
        (cut_manifest, "was not finished or is damaged"),
        (remove_tensors, r"tensors\.safetensors: .*No such file"),
        (cut_tensors, r"tensors\.safetensors has \d+ of \d+ bytes"),
        (flip_bit, r"tensors\.safetensors has other contents"),
    ],
)
def test_where_none_can_be_read_each_is_named_with_its_reason(run, damage, reason):
    for step in (2, 4):
        write_checkpoint(run, make_checkpoint(step), {})
        damage(run.path / "checkpoints" / f"step-{step:08d}")
    with pytest.raises(UserError, match=f"(?s){reason}.*{reason}") as refused:
        read_newest_checkpoint(run)
    assert "step-00000002" in str(refused.value)
    assert "step-00000004" in str(refused.value)


def test_a_read_error_is_not_damage(run):
    """EIO, as a network's file system gives it; here the system gives it for /proc/self/mem."""
    for step in (2, 4):
        write_checkpoint(run, make_checkpoint(step), {})
    file = run.path / "checkpoints" / "step-00000004" / "tensors.safetensors"
    file.unlink()
    file.symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error"):
        read_newest_checkpoint(run)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/b", ".."])
def test_a_manifest_leads_to_no_file_outside_of_its_folder(run, name):
    (run.path / "secret").write_text("secret")
    write_checkpoint(run, make_checkpoint(1), {})
    path = run.path / "checkpoints" / "step-00000001" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    del manifest["sha256"]
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest | {"sha256": own}))
    with pytest.raises(DamagedCheckpointError, match=f"leads elsewhere: '{name}' is not"):
        read_checkpoint(run, "step-00000001")


@pytest.mark.parametrize("position", range(0, 600, 37))
def test_no_flipped_byte_goes_unnoticed(run, position):
    """Of whichever file the byte is in."""
    write_checkpoint(run, make_checkpoint(1), {})
    files = sorted((run.path / "checkpoints" / "step-00000001").iterdir())
    sizes = [file.stat().st_size for file in files]
    position %= sum(sizes)
    for file, size in zip(files, sizes, strict=True):
        if position < size:
            content = bytearray(file.read_bytes())
            content[position] ^= 0x10
            file.write_bytes(content)
            break
        position -= size
    try:
        read = read_checkpoint(run, "step-00000001")
    except DamagedCheckpointError:
        return
    for name, expected in make_checkpoint(1).tensors.items():  # A byte of what nobody relies on.
        np.testing.assert_array_equal(read.tensors[name], expected)


def test_a_folder_without_checkpoints_has_no_newest_one(run):
    assert read_newest_checkpoint(run) is None


def test_writing_again_replaces_a_damaged_one(run):
    write_checkpoint(run, make_checkpoint(1), {})
    flip_bit(run.path / "checkpoints" / "step-00000001")
    write_checkpoint(run, make_checkpoint(1), {})
    assert read_checkpoint(run, "step-00000001").step == 1


def test_checkpoints_are_listed_by_step_and_not_by_name(run):
    for step in (5, 200_000_000, 10):
        write_checkpoint(run, make_checkpoint(step), {})
    (run.path / "checkpoints" / "notes").mkdir()
    assert [step_of_name(name) for name in list_checkpoints(run)] == [5, 10, 200_000_000]


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_cut_short_is_noticed(tmp_path, file):
    run = write_two(tmp_path)
    path = tmp_path / "checkpoints" / "step-00000002" / file
    whole = path.read_bytes()
    for size in {0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.warns(UserWarning, match="passed over: .*step-00000002"):
            newest = read_newest_checkpoint(run)
        assert newest is not None
        assert newest.step == 1
        assert_is_whole(newest)


@pytest.mark.parametrize("file", FILES)
def test_flipped_bits_are_noticed(tmp_path, file):
    """Only the spaces of a manifest may become others, which changes nothing."""
    run = write_two(tmp_path)
    path = tmp_path / "checkpoints" / "step-00000002" / file
    whole = path.read_bytes()
    rng = np.random.default_rng(len(file))
    places = rng.integers(0, len(whole), 200).tolist() + list(range(min(len(whole), 400)))
    expected = read_metrics(run)
    num_unnoticed = 0
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert_is_whole(read_checkpoint(run, "step-00000002"))
        except DamagedCheckpointError:
            continue
        num_unnoticed += 1
        assert bytes(whole[place : place + 1]).isspace()
        assert read_metrics(run) == expected
    assert num_unnoticed == 0 or file == "manifest.json"


def test_a_checkpoint_under_another_name_is_not_taken_for_it(tmp_path):
    run = write_two(tmp_path)
    (tmp_path / "checkpoints" / "step-00000002").rename(tmp_path / "checkpoints" / "step-00000007")
    with pytest.raises(DamagedCheckpointError, match="of another step"):
        read_checkpoint(run, "step-00000007")


def test_a_first_checkpoint_that_a_store_has_in_part_is_none_and_a_damaged_one_is_refused(
    object_store,
):
    make_bucket("parts", object_store)
    run = open_folder(make_uri("parts/run", object_store))
    with Way(object_store, may_pass=lambda line: b"state.json" not in line) as way:
        cut = open_folder(make_uri("parts/run", way.address))
        with pytest.raises(OSError, match="parts"):
            write_checkpoint(cut, samples.make_checkpoint(1), {})
    assert run.names("checkpoints/step-00000001") == ["tensors.safetensors"]
    with pytest.warns(UserWarning, match="step-00000001 was not finished"):
        assert read_newest_checkpoint(run) is None
    write_checkpoint(run, samples.make_checkpoint(2), {})
    assert_still_good(run, 2)
    run.remove("checkpoints/step-00000002/manifest.json")
    with pytest.raises(UserError, match=r"step-00000002/manifest.json.*step-00000001 was not fin"):
        read_newest_checkpoint(run)


def test_a_store_that_cannot_be_asked_is_not_taken_for_an_empty_one(object_store):
    make_bucket("gone", object_store)
    write_checkpoint(
        open_folder(make_uri("gone/run", object_store)), samples.make_checkpoint(1), {}
    )
    with Way(object_store) as way:
        run = open_folder(make_uri("gone/run", way.address))
        assert_still_good(run, 1)
        way.is_cut = True
        with pytest.raises(OSError, match=r"gone|run"):
            read_newest_checkpoint(run)
