"""Logs a run to Weights & Biases: its configuration, and the figures of each epoch over all ranks.

pip install 'sharedlayers_dist[wandb]'
sharedlayers train ... --callbacks docs/examples/log_to_wandb.py:make_callbacks

WANDB_PROJECT, WANDB_API_KEY and so on are those of all programs that use it. WANDB_MODE=offline
writes to WANDB_DIR alone, for `wandb sync`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import wandb

from sharedlayers_dist import TrainConfig, dist
from sharedlayers_dist.training import RunFolder


def make_callbacks(config: TrainConfig) -> list[keras.callbacks.Callback]:
    """Called on every rank; rank zero logs for all."""
    return [LogToWandb(config)] if dist.rank() == 0 else []


class LogToWandb(keras.callbacks.Callback):
    """One run there for one run folder, over all its resumptions.

    Args:
        config: The run's options.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._folder = RunFolder(config.output)
        self._is_resumed = config.resume
        self._run: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins the run there, or goes on with it."""
        self._run = wandb.init(
            id=hashlib.sha256(str(self._folder).encode()).hexdigest()[:16],
            resume="allow" if self._is_resumed else None,
            config=self._folder.read_config(),  # The options without secrets, and their facts.
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the figures of an epoch."""
        self._run.log({name: float(x) for name, x in (logs or {}).items()}, step=epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends the run there."""
        self._run.finish()
