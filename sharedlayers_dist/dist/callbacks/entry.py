"""The comparison of the ranks when they enter `fit`: what must be the same on all of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras

from sharedlayers_dist.dist.collectives import allgather_object
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
    losses = keras.tree.flatten(model.loss)
    return {
        "first epoch": str(epoch),
        "epochs": str(params.get("epochs")),
        "steps of an epoch": str(params.get("steps")),
        "optimizer": f"{type(model.optimizer).__name__}({_read_settings(model.optimizer)})",
        "loss": ", ".join(map(_name_of, losses)),
    }


def _name_of(loss: Any) -> str:
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None)
    return loss if isinstance(loss, str) else name or type(loss).__name__


def _read_settings(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """An optimizer's settings; none where it does not tell them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of what could not be saved, which nobody wants to.
        try:
            return _plain(optimizer.get_config())
        except NotImplementedError:
            return {}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values, but for the name, which is made up, and a rate that is broadcast."""
    return {
        name: _plain(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if isinstance(value, str | bool | int | float | dict | None)
        and name != "name"
        and not (name == "learning_rate" and isinstance(value, float))
    }
