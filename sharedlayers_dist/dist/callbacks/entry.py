"""The comparison of the ranks when they enter `fit`: what must be the same on all of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras

from sharedlayers_dist.dist.collectives import allgather_object
from sharedlayers_dist.dist.gradients.keras_hooks import compiled_metrics
from sharedlayers_dist.errors import CollectiveUserError


def require_same_entry(model: keras.Model, epoch: int, params: Mapping[str, Any] | None) -> None:
    """Compares over the ranks what must be equal for them to train together.

    Every rank must call it, at the begin of its first epoch. What rank zero alone may do, writing
    files, is not looked at.

    Args:
        model: The compiled model.
        epoch: Index of the epoch that this rank begins with.
        params: Keras's parameters of callbacks: `epochs`, `steps`.

    Raises:
        CollectiveUserError: on every rank; names what differs, and each rank's value.
    """
    entries = allgather_object(describe_entry(model, epoch, params))
    for name in entries[0]:
        values = [entry[name] for entry in entries]
        if any(value != values[0] for value in values):
            received = ", ".join(f"{value} on rank {rank}" for rank, value in enumerate(values))
            raise CollectiveUserError(
                f"All ranks must enter fit() alike. Received: {name}: {received}. Give all ranks "
                "the same arguments, and restore on all ranks or on none: a callback that goes on "
                "from a file (BackupAndRestore) must find the same file on every rank."
            )


def describe_entry(
    model: keras.Model, epoch: int, params: Mapping[str, Any] | None
) -> dict[str, str]:
    """What a rank brings along, as texts by name."""
    params = params or {}
    metrics, weighted_metrics = compiled_metrics(model)
    return {
        "first epoch": str(epoch),
        "epochs": str(params.get("epochs")),
        "steps of an epoch": str(params.get("steps")),
        "optimizer": f"{type(model.optimizer).__name__}({_read_settings(model.optimizer)})",
        "loss": _describe_each(model.loss),
        "metrics": _describe_each(metrics),
        "weighted metrics": _describe_each(weighted_metrics),
    }


def _describe_each(parts: Any) -> str:
    """The losses or metrics of one argument of `compile`, in any structure."""
    found = [part for part in keras.tree.flatten(parts) if part is not None]
    return ", ".join(map(_describe, found)) or "none"


def _describe(part: Any) -> str:
    if isinstance(part, str):
        return part
    if hasattr(part, "get_config"):
        return f"{type(part).__name__}({_read_settings(part)})"
    return getattr(part, "__name__", type(part).__name__)


def _read_settings(part: Any) -> dict[str, Any]:
    """The settings of an optimizer, a loss or a metric; none where it does not tell them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of what could not be saved, which nobody wants to.
        try:
            return _plain(part.get_config())
        except Exception:  # A class of the user's own need not be one that can be saved.
            return {}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values, but for the name, which is made up, and a rate that is broadcast.

    A function is none: Keras has it as bytes, which differ from process to process.
    """
    return {
        name: _plain(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if isinstance(value, str | bool | int | float | dict | None)
        and name not in ("name", "fn")
        and not (name == "learning_rate" and isinstance(value, float))
    }
