"""A run's figures and checkpoints, as Ray sees them."""

from __future__ import annotations

import threading
from typing import Any

import keras
import ray.train
from ray.train import Checkpoint
from ray.train.v2.api.report_config import CheckpointUploadMode

from sharedlayers_dist import dist
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.folder import MANIFEST
from sharedlayers_dist.training.checkpoints.files import FOLDER, name_of_step
from sharedlayers_dist.training.run_folder import RunFolder

_SECONDS_BETWEEN_LOOKS = 0.2


class Report(keras.callbacks.Callback):
    """Reports each epoch to Ray Train: its metrics over all ranks, and its checkpoint.

    The checkpoint is the run's own, in the run folder: nothing is copied. It is written in the
    background, so Ray is told of both in the background too, once it is whole.

    Args:
        run: The run folder.
        node: The address of this rank's node, for people.
    """

    def __init__(self, run: RunFolder, node: str) -> None:
        super().__init__()
        self._run = run
        self._node = node
        self._is_over = threading.Event()

    def end(self) -> None:
        """Ends the waiting for a checkpoint that will not come; all others are there by now."""
        self._is_over.set()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Makes sure that any worker could go on from the run folder.

        Raises:
            UserError: on all ranks, for a run folder that is not the same on all nodes.
        """
        error: UserError | None = None
        try:
            self._run.read_config()
        except UserError:
            error = UserError(
                "Every node must see the run folder, since any of them may have to go on with the "
                f"run. Received: output={str(self._run)!r}, which rank {dist.rank()} on the node "
                f"{self._node} does not see. Choose a folder on a shared file system or an object "
                "store."
            )
        dist.raise_on_all_ranks(error)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Hands Ray the epoch; all ranks do, and rank zero's figures count."""
        metrics = {"epoch": epoch + 1, **{name: float(x) for name, x in (logs or {}).items()}}
        checkpoint = None
        name = f"{FOLDER}/{name_of_step(int(self.model.optimizer.iterations))}"
        if dist.rank() == 0:
            checkpoint = Checkpoint(*self._run.files.locate(name))
        ray.train.report(
            metrics,
            checkpoint=checkpoint,
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=lambda checkpoint, _: self._wait_for(name, checkpoint),
            delete_local_checkpoint_after_upload=False,
        )

    def _wait_for(self, name: str, checkpoint: Checkpoint) -> Checkpoint:
        """Returns when the checkpoint is whole."""
        is_over = False
        while MANIFEST not in self._run.files.names(name):
            if is_over:
                raise RuntimeError(f"The run ended before it had written {self._run}/{name}.")
            is_over = self._is_over.wait(_SECONDS_BETWEEN_LOOKS)
        return checkpoint
