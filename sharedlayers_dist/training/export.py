"""The models that a run leaves behind, in Keras's own format: the last one and the best one."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import keras

from sharedlayers_dist.storage.folder import Folder
from sharedlayers_dist.training.checkpoints.files import (
    DamagedCheckpointError,
    name_of_step,
    read_checkpoint,
)
from sharedlayers_dist.training.checkpoints.manager import read_metrics
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy, best_steps
from sharedlayers_dist.training.checkpoints.state import restore
from sharedlayers_dist.training.run_folder import BEST_MODEL, MODEL


def export_models(
    run: Folder, model: keras.Model, optimizer: keras.optimizers.Optimizer, rule: RetentionPolicy
) -> None:
    """Writes `model.keras`, compiled with the optimizer that trained it, and `best.keras`.

    The model ends with the weights of the latter.

    Args:
        run: The run folder.
        model: The trained model, with the notebook's inputs.
        optimizer: The optimizer of the model's weights; recorded as the plain one.
        rule: Which checkpoint is the best. Where none is kept for that, there is no `best.keras`.
    """
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    run.write(MODEL, _as_file(model))
    for step in best_steps(read_metrics(run), rule) if rule.best else []:
        try:
            restore(model, read_checkpoint(run, name_of_step(step)))
        except DamagedCheckpointError as error:
            warnings.warn(f"The best checkpoint was passed over: {error}", stacklevel=2)
            continue
        run.write(BEST_MODEL, _as_file(model))
        break


def _as_file(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        model.save(path)
        return path.read_bytes()
