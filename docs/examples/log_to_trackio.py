"""Logs a run to Trackio: its configuration, and the figures of each epoch over all ranks.

pip install 'sharedlayers_dist[trackio]'
sharedlayers train ... --callbacks docs/examples/log_to_trackio.py:make_callbacks
trackio show

TRACKIO_PROJECT names the project; TRACKIO_DIR, TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says where
to, as in all programs that use Trackio.
"""

from __future__ import annotations

import os
from typing import Any

import keras
import trackio

from sharedlayers_dist import TrainConfig, dist
from sharedlayers_dist.training import RunFolder


def make_callbacks(config: TrainConfig) -> list[keras.callbacks.Callback]:
    """Called on every rank; rank zero logs for all."""
    return [LogToTrackio(config)] if dist.rank() == 0 else []


class LogToTrackio(keras.callbacks.Callback):
    """One run of Trackio, named after the run folder, over all its resumptions.

    Args:
        config: The run's options.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._folder = RunFolder(config.output)
        self._is_resumed = config.resume

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins Trackio's run, or goes on with it."""
        trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "sharedlayers"),
            name=str(self._folder),
            resume="allow" if self._is_resumed else "never",
            config=self._folder.read_config(),  # The options without secrets, and their facts.
            embed=False,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the figures of an epoch."""
        trackio.log({name: float(x) for name, x in (logs or {}).items()}, step=epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends Trackio's run."""
        trackio.finish()
