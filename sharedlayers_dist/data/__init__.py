"""Pair datasets in Parquet: what they look like, the order they are read in, and their making.

The public names are imported on first use; only `as_tf_dataset` loads TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME_OF_NAME = {
    "ArrayItems": "items",
    "Batch": "batch",
    "DatasetIndex": "index",
    "DatasetMixture": "mixture",
    "EpochPlan": "plan",
    "GroupedItems": "grouped_reader",
    "GroupedPairReader": "grouped_reader",
    "PairMetadata": "schema",
    "PairReader": "reader",
    "Reader": "reader",
    "as_tf_dataset": "feed",
    "encode_text": "text",
    "index_dataset": "index",
    "index_mixture": "mixture",
    "inspect_dataset": "inspection",
    "make_alphabet": "alphabet",
    "make_pairs": "making",
    "make_pairs_of": "making",
    "plan_epoch": "plan",
    "read_items": "grouped_reader",
    "resolve_alphabet": "alphabet",
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
