"""Training on a Ray cluster: Horovod for Ray Train, actors that read the pairs, and the launcher.

`HorovodConfig` serves train functions that use nothing else of this project.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharedlayers_dist.ray.backend import HorovodConfig as HorovodConfig
    from sharedlayers_dist.ray.backend import num_restarts as num_restarts
    from sharedlayers_dist.ray.driver import train as train
    from sharedlayers_dist.ray.driver import train_for_result as train_for_result

_HOME_OF_NAME = {
    "HorovodConfig": "backend",
    "num_restarts": "backend",
    "train": "driver",
    "train_for_result": "driver",
}
__all__ = sorted(_HOME_OF_NAME)


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name in _HOME_OF_NAME:
        return getattr(import_module(f"{__name__}.{_HOME_OF_NAME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted([*globals(), *__all__])
