"""Pair datasets in Parquet: what they look like, the order they are read in, and their making.

The public names are imported on first use; only `as_tf_dataset` loads TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME_OF_NAME = {
    "ArrayItems": "making.items",
    "Batch": "reading.batch",
    "DatasetIndex": "index",
    "DatasetMixture": "mixture",
    "EpochPlan": "order.epoch_plan",
    "GroupedItems": "reading.pk_reader",
    "PKReader": "reading.pk_reader",
    "PairMetadata": "schema",
    "PairReader": "reading.pair_reader",
    "Reader": "reading.reader",
    "as_tf_dataset": "reading.tf_dataset",
    "encode_text": "text",
    "index_dataset": "index",
    "index_mixture": "mixture",
    "inspect_dataset": "inspection.inspect",
    "make_alphabet": "alphabet",
    "make_pairs": "making.make_pairs",
    "make_pairs_of": "making.make_pairs",
    "plan_epoch": "order.epoch_plan",
    "read_items": "reading.pk_reader",
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
