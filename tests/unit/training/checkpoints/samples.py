"""Small checkpoints whose contents say which they are."""

import numpy as np

from sharedlayers_dist.training.checkpoints.files import Checkpoint


def make_checkpoint(step: int) -> Checkpoint:
    tensors = {
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
