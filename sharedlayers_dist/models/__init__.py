"""Models with shared layers in functional Keras 3: the zoo, pair models, and the node API.

Names are imported on first use, so that listing the models loads no TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharedlayers_dist.models.compact import compact_view
    from sharedlayers_dist.models.nodes import (
        AmbiguousNodeError,
        get_input,
        get_input_at,
        get_input_shape_at,
        get_output,
        get_output_at,
        get_output_shape_at,
    )
    from sharedlayers_dist.models.pair import PairEncoder, find_encoder, pair_classifier
    from sharedlayers_dist.models.registry import ModelInfo, build, info, names
    from sharedlayers_dist.models.sharing import SharedLayer, shared_layers

__all__ = [
    "AmbiguousNodeError",
    "ModelInfo",
    "PairEncoder",
    "SharedLayer",
    "build",
    "compact_view",
    "find_encoder",
    "get_input",
    "get_input_at",
    "get_input_shape_at",
    "get_output",
    "get_output_at",
    "get_output_shape_at",
    "info",
    "names",
    "pair_classifier",
    "shared_layers",
]

_NAMES_OF_MODULE = {
    "compact": ("compact_view",),
    "nodes": (
        "AmbiguousNodeError",
        "get_input",
        "get_input_at",
        "get_input_shape_at",
        "get_output",
        "get_output_at",
        "get_output_shape_at",
    ),
    "pair": ("PairEncoder", "find_encoder", "pair_classifier"),
    "registry": ("ModelInfo", "build", "info", "names"),
    "sharing": ("SharedLayer", "shared_layers"),
}
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF_NAME[name]}"), name)


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted([*globals(), *__all__])
