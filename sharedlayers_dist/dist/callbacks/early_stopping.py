"""Callbacks that decide by a monitored value: rank zero's value decides for all ranks."""

from __future__ import annotations

from typing import Any

import keras

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collectives import broadcast_object


class _Agreed:
    """Mixed in before a callback of Keras with a `monitor`."""

    monitor: str

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Decides by rank zero's value, which replaces the rank's own in the logs."""
        logs = {} if logs is None else logs
        with runtime.watch_exchange():
            value = broadcast_object(logs.get(self.monitor))
        if value is None:
            logs.pop(self.monitor, None)
        else:
            logs[self.monitor] = value
        super().on_epoch_end(epoch, logs)  # type: ignore[misc]


class AgreedEarlyStopping(_Agreed, keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping`, with all ranks stopping after the same epoch.

    Ranks that stop at different times wait for each other for ever. Takes the same arguments.
    """


class AgreedReduceLROnPlateau(_Agreed, keras.callbacks.ReduceLROnPlateau):
    """`keras.callbacks.ReduceLROnPlateau`, with all ranks at the same learning rate.

    Takes the same arguments.
    """
