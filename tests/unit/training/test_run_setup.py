"""What a run starts from, and what is refused before anything is written."""

import json
import os
import shutil

import pytest

from sharedlayers_dist import train
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.storage.run_lock import lock_run
from tests.runs import read_last_checkpoint
from tests.unit.training.finished_run import Witness, config, read_files, read_weights


def test_another_configuration_is_refused_with_what_differs(trained, run):
    before = read_files(run)
    with pytest.raises(ValueError, match="resumed with the configuration") as refused:
        train(config(trained, "copy", resume=True, epochs=3, seed=4, head="cosine"))
    assert "seed: 0 in the run, 4 asked for" in str(refused.value)
    assert "head: 'concatenation' in the run, 'cosine' asked for" in str(refused.value)
    assert "epochs" not in str(refused.value)
    assert read_files(run) == before


def damage(run):
    for number, path in enumerate(sorted((run / "checkpoints").iterdir())):
        if number % 2:
            (path / "tensors.safetensors").write_bytes(b"")
        else:
            (path / "manifest.json").unlink()


def test_a_run_none_of_whose_checkpoints_can_be_read_is_refused_and_left_alone(trained, run):
    damage(run)
    before = read_files(run)
    with pytest.raises(UserError, match="from a checkpoint that can be read") as refused:
        train(config(trained, "copy", resume=True, epochs=3))
    assert f"{run}/checkpoints/step-00000002 was not finished" in str(refused.value)
    assert "step-00000004/tensors.safetensors has 0 of" in str(refused.value)
    assert read_files(run) == before
    changes = {"initialize_from": str(run), "epochs": 1}
    with pytest.raises(UserError, match="from a checkpoint that can be read"):
        train(config(trained, "never", **changes))
    assert not (trained / "never").exists()


def test_a_run_whose_checkpoints_are_gone_is_refused_and_left_alone(trained, run):
    shutil.rmtree(run / "checkpoints")
    (run / "best.keras").unlink()
    before = read_files(run)
    for _ in range(2):
        with pytest.raises(UserError, match="longer than an epoch and holds none"):
            train(config(trained, "copy", resume=True, epochs=3))
        (run / "model.keras").unlink(missing_ok=True)  # Its metrics still tell.
    assert read_files(run) == before


def test_a_read_error_ends_a_resume_and_leaves_the_run_alone(trained, run):
    file = run / "checkpoints" / "step-00000004" / "tensors.safetensors"
    file.unlink()
    file.symlink_to("/proc/self/mem")  # Reading it gives EIO, as of a server that is away.
    names = sorted(run.rglob("*"))
    metrics = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(OSError, match="Input/output error"):
        train(config(trained, "copy", resume=True, epochs=3))
    assert sorted(run.rglob("*")) == names
    assert (run / "metrics.jsonl").read_bytes() == metrics


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_from_the_start(trained, run):
    shutil.rmtree(run / "checkpoints")
    for name in ("model.keras", "best.keras"):
        (run / name).unlink()
    first = (run / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
    (run / "metrics.jsonl").write_text(first)
    with pytest.warns(UserWarning, match="had written no checkpoint: it begins from the start"):
        result = train(config(trained, "copy", resume=True))
    assert result.steps == 4
    actual, expected = read_last_checkpoint(run), read_last_checkpoint(trained / "run")
    for name, tensor in expected.tensors.items():
        assert actual.tensors[name].tobytes() == tensor.tobytes(), name


def test_a_run_that_another_process_writes_to_is_refused_and_left_alone(trained, run):
    before = read_files(run)
    lock = lock_run(LocalFolder(run))
    held = read_files(run)
    try:
        for resume in (False, True):
            with pytest.raises(UserError, match=f"process {os.getpid()} on .* writes to"):
                train(config(trained, "copy", resume=resume, epochs=3))
        assert read_files(run) == held
    finally:
        lock.release()
    assert read_files(run) == before


def test_initializing_from_a_run_takes_its_weights_alone(trained):
    shutil.rmtree(trained / "other", ignore_errors=True)
    witness = Witness()
    changes = {"initialize_from": str(trained / "run"), "epochs": 1, "seed": 3}
    result = train(config(trained, "other", **changes), [witness])
    assert (result.steps, result.epochs) == (2, 1)
    assert witness.weights == read_weights(read_last_checkpoint(trained / "run"))
    assert witness.iterations == 0
    assert not any(value.any() for value in witness.momenta)
    (line,) = (trained / "other" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 2
