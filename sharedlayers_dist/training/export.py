"""The models that a run leaves behind, in Keras's own format: the last one and the best one."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import keras

from sharedlayers_dist import dist
from sharedlayers_dist.storage.folder import Folder
from sharedlayers_dist.training.checkpoints.files import (
    DamagedCheckpointError,
    name_of_step,
    read_checkpoint,
)
from sharedlayers_dist.training.checkpoints.manager import read_metrics
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy, best_steps
from sharedlayers_dist.training.checkpoints.state import restore
from sharedlayers_dist.training.run_folder import BEST_MODEL, MODEL, RunFolder
from sharedlayers_dist.training.trained_model import TrainedModel


def export_on_rank_zero(folder: RunFolder, model: TrainedModel, policy: RetentionPolicy) -> None:
    """Leaves the model with its own inputs, compiled as it was trained; and the best.

    Every rank must call it, and learns of what goes wrong.
    """
    error: BaseException | None = None
    if dist.world().is_rank_zero:
        try:
            folder.require_locked()
            model.compile_plain()
            has_optimizer = model.objective.head is None
            export_models(folder.files, model.plain, policy, has_optimizer=has_optimizer)
        except Exception as e:  # Whatever it is, the other ranks must learn of it.
            error = e
    dist.raise_on_all_ranks(error)


def export_models(
    run: Folder, model: keras.Model, policy: RetentionPolicy, *, has_optimizer: bool = True
) -> None:
    """Writes `model.keras`, with the optimizer that trained it, and `best.keras`.

    The model ends with the weights of the latter.

    Args:
        run: The run folder.
        model: The trained model, with its own inputs, and compiled as it was trained; its
            optimizer is recorded as the plain one.
        has_optimizer: Whether that optimizer is the one of the checkpoints.
        policy: Which checkpoint is the best. Where none is kept for that, there is no `best.keras`.

    Raises:
        RuntimeError: when no checkpoint with the metric can be read.
        OSError: when the storage cannot be asked.
    """
    run.write(MODEL, _as_file(model))
    parts = ["model", "optimizer"] if has_optimizer else ["model"]
    best = best_steps(read_metrics(run), policy) if policy.best else []
    problems: list[str] = []
    for step in best:
        try:
            restore(model, read_checkpoint(run, name_of_step(step)), parts=parts)
        except DamagedCheckpointError as error:
            problems.append(str(error))
            warnings.warn(f"The best checkpoint was passed over: {error}", stacklevel=2)
            continue
        run.write(BEST_MODEL, _as_file(model))
        return
    if problems:
        raise RuntimeError(
            f"{BEST_MODEL} is made of a checkpoint that can be read. Received: {run}, where none "
            f"of the best can: {' '.join(problems)} {MODEL} has been written."
        )


def _as_file(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        model.save(path)
        return path.read_bytes()
