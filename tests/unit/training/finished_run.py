"""A small run that has ended, for the tests of what a later run takes up from it."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from sharedlayers_dist import TrainConfig
from sharedlayers_dist.training.checkpoints.files import Checkpoint
from tests.runs import make_options


class Witness(keras.callbacks.Callback):
    """Sees what the training starts from, and counts its steps."""

    def __init__(self):
        super().__init__()
        self.weights = None
        self.iterations = None
        self.num_steps = 0

    def on_train_begin(self, logs=None):
        self.weights = [w.tobytes() for w in self.model.get_weights()]
        self.iterations = int(self.model.optimizer.iterations)
        self.momenta = [np.array(v.value) for v in self.model.optimizer.variables[2:]]

    def on_train_batch_end(self, batch, logs=None):
        self.num_steps += 1


def config(folder: Path, run: str, **changes: Any) -> TrainConfig:
    """Of 2 epochs of 2 steps on `folder`/pairs."""
    own = {"keep_best": 2}
    return TrainConfig(**make_options(folder / "pairs", folder / run, **own | changes))


def read_weights(checkpoint: Checkpoint) -> list[bytes]:
    """Without the state of random numbers, as `get_weights` has them."""
    named = zip(checkpoint.state["names"]["model"], checkpoint.part("model"), strict=True)
    return [array.tobytes() for name, array in named if not name.startswith("seed_generator")]


def read_files(run: Path) -> dict[Path, bytes]:
    """All files of a run but its models."""
    return {
        path.relative_to(run): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.suffix != ".keras"  # They hold the time of their writing.
    }
