"""Training runs: the models, the data and the collectives, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.keras_settings import require_usable_settings
from sharedlayers_dist.training.result import TrainResult
from sharedlayers_dist.training.run_folder import RunFolder
from sharedlayers_dist.world import Launch

if TYPE_CHECKING:
    import keras

__all__ = ["RunFolder", "TrainResult", "require_launcher", "train"]


def train(
    config: TrainConfig,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    build: Callable[..., keras.Layer] | None = None,
) -> TrainResult:
    """Trains a pair model as `config` says; every rank of a distributed run calls this.

    Args:
        config: The run's options, the same on all ranks.
        callbacks: Further Keras callbacks, called after this project's own on every rank.
        build: Returns an encoder (one input, one output) or a pair model (two inputs, one score),
            compiled or not; takes `config.model_options` as keywords. Instead of `config.model`.

    Returns:
        What was trained and where it lies; the same on all ranks.

    Raises:
        UserError: on all ranks, for what a user got wrong (a folder, a column, an option).
        RuntimeError: on all ranks, for a rank that failed or a file that could not be written.
    """
    require_launcher(config)
    require_usable_settings()
    from sharedlayers_dist.training.fit import fit  # Here, so that importing loads no TensorFlow.
    from sharedlayers_dist.training.model_source import ModelSource

    return fit(config, callbacks, source=ModelSource(build=build))


def require_launcher(config: TrainConfig) -> None:
    """Makes sure that this process was started as the configuration says; imports nothing.

    Raises:
        UserError: for a launcher that contradicts how the process was started.
    """
    if config.launcher == "ray":
        raise UserError(
            "A run on Ray is started by its driver. Received: launcher='ray'. Call "
            "sharedlayers_dist.ray.train(config)."
        )
    if config.launcher == "local":
        Launch.detect().require_one_process(
            "launcher='local'", "Leave `launcher` out, so that they train as ranks of one run."
        )
