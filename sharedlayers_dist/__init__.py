"""Train Keras 3 models with shared layers on pair data: on one process, or on many with Horovod.

The public names are imported on first use, so that `import sharedlayers_dist` loads no TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharedlayers_dist import data, dist, evaluate, models, ray
    from sharedlayers_dist.config import TrainConfig
    from sharedlayers_dist.training import TrainResult, train
    from sharedlayers_dist.world import World

__all__ = [
    "TrainConfig",
    "TrainResult",
    "World",
    "data",
    "dist",
    "evaluate",
    "models",
    "ray",
    "train",
]
__version__ = "0.1.0"

_HOME_OF_NAME = {
    "TrainConfig": "sharedlayers_dist.config",
    "TrainResult": "sharedlayers_dist.training",
    "World": "sharedlayers_dist.world",
    "train": "sharedlayers_dist.training",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name in _HOME_OF_NAME:
        return getattr(import_module(_HOME_OF_NAME[name]), name)
    if name in __all__:
        return import_module(f"sharedlayers_dist.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted([*globals(), *__all__])
