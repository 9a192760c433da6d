"""The comparison of the ranks when they enter `fit`: what must be the same on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from sharedlayers_dist.dist.collectives import allgather_object
from sharedlayers_dist.errors import CollectiveUserError


def require_same_entry(model: keras.Model, epoch: int, params: Mapping[str, Any]) -> None:
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


def describe_entry(model: keras.Model, epoch: int, params: Mapping[str, Any]) -> dict[str, str]:
    """Returns the values of this rank that are compared, as texts by name."""
    losses = keras.tree.flatten(model.loss)
    return {
        "first epoch": str(epoch),
        "epochs": str(params.get("epochs")),
        "steps of an epoch": str(params.get("steps")),
        "optimizer": f"{type(model.optimizer).__name__}({_settings(model.optimizer.get_config())})",
        "loss": ", ".join(str(getattr(loss, "name", loss)) for loss in losses),
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's settings but for its name, which is made up, and a rate that is broadcast."""
    return {
        name: _settings(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name != "name" and not (name == "learning_rate" and isinstance(value, float))
    }
