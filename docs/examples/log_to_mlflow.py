"""Logs a run to MLflow: its configuration, and the figures of each epoch over all ranks.

pip install 'sharedlayers_dist[mlflow]'
sharedlayers train ... --callbacks docs/examples/log_to_mlflow.py:make_callbacks

MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say where to, as in all programs that use MLflow.
"""

from __future__ import annotations

import json
from typing import Any

import keras
import mlflow

from sharedlayers_dist import TrainConfig, dist
from sharedlayers_dist.training import RunFolder


def make_callbacks(config: TrainConfig) -> list[keras.callbacks.Callback]:
    """Called on every rank; rank zero logs for all."""
    return [LogToMlflow(config)] if dist.rank() == 0 else []


class LogToMlflow(keras.callbacks.Callback):
    """One run of MLflow for one run folder, over all its resumptions.

    Args:
        config: The run's options.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._folder = RunFolder(config.output)
        self._is_resumed = config.resume

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins MLflow's run, or goes on with it."""
        before = self._find() if self._is_resumed else None
        mlflow.start_run(run_id=before, tags={"output": str(self._folder)})
        if before is None:
            stored = self._folder.read_config()  # The options without secrets, and their facts.
            mlflow.log_dict(stored, "config.json")
            mlflow.log_params({name: json.dumps(value) for name, value in stored.items()})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the figures of an epoch."""
        mlflow.log_metrics({name: float(x) for name, x in (logs or {}).items()}, step=epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends MLflow's run."""
        mlflow.end_run()

    def _find(self) -> str | None:
        of_folder = f"tags.output = '{self._folder}'"
        found = mlflow.search_runs(filter_string=of_folder, max_results=1, output_format="list")
        return found[0].info.run_id if found else None
