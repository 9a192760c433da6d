"""Small checkpoints whose contents say which they are."""

import warnings
from pathlib import Path

import numpy as np

from sharedlayers_dist.storage.folder import Folder, LocalFolder
from sharedlayers_dist.training.checkpoints.files import (
    Checkpoint,
    read_newest_checkpoint,
    write_checkpoint,
)


def make_checkpoint(step: int) -> Checkpoint:
    tensors: dict[str, np.ndarray] = {
        "model.00000": np.arange(600, dtype=np.float32).reshape(20, 30) + step,
        "model.00001": np.array(step, np.int64),
        "metrics.00000": np.array([0.1], np.float64),
    }
    state = {"position": {"epoch": 0, "step_of_epoch": step, "step": step}, "한": "글"}
    return Checkpoint(step=step, tensors=tensors, state=state)


def assert_is_whole(checkpoint: Checkpoint) -> None:
    """Every part of it must be of the same step."""
    expected = make_checkpoint(checkpoint.step)
    assert checkpoint.state == expected.state
    assert checkpoint.tensors.keys() == expected.tensors.keys()
    for name, array in expected.tensors.items():
        assert checkpoint.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(checkpoint.tensors[name], array)


def write_two(folder: Path) -> LocalFolder:
    """Checkpoints of steps 1 and 2, the second with the smaller loss."""
    run = LocalFolder(folder)
    for step in (1, 2):
        write_checkpoint(run, make_checkpoint(step), {"metrics": {"loss": 1 / step}})
    return run


def assert_still_good(run: Folder, step: int = 2) -> None:
    """The newest checkpoint is of this step and whole; nothing was passed over to find it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        newest = read_newest_checkpoint(run)
    assert newest is not None
    assert newest.step == step
    assert_is_whole(newest)
