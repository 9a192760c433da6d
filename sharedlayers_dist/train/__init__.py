"""Training runs: the models, the data and the collectives, put together.

`sharedlayers_dist.train` is this package and, called with a TrainConfig, the training itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.train.result import TrainResult
from sharedlayers_dist.train.run_folder import RunFolder

if TYPE_CHECKING:
    import keras

__all__ = ["RunFolder", "TrainResult", "train"]


def train(config: TrainConfig, callbacks: Sequence[keras.callbacks.Callback] = ()) -> TrainResult:
    """Trains a pair model as `config` says; every rank of a distributed run calls this.

    Args:
        config: The run's options, the same on all ranks.
        callbacks: Further Keras callbacks, called after this project's own on every rank.

    Returns:
        What was trained and where it lies; the same on all ranks.

    Raises:
        ValueError: on all ranks, for what a user got wrong (a folder, a column, an option).
        RuntimeError: on all ranks, for a rank that failed or a file that could not be written.
    """
    if config.launcher == "ray":
        raise ValueError(
            "A run on Ray is started by its driver. Received: launcher='ray'. Call "
            "sharedlayers_dist.ray.train(config)."
        )
    from sharedlayers_dist.train.fit import fit  # Here, so that importing loads no TensorFlow.

    return fit(config, callbacks)


class _CallablePackage(ModuleType):
    """Lets the package stand for its one main function, since both are called `train`."""

    __call__ = staticmethod(train)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        """Is pickled by name, as any module: functions that use it are sent to other processes."""
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _CallablePackage
