"""Callbacks that decide by a monitored value: one rank's value decides for all ranks."""

from __future__ import annotations

from typing import Any

import keras

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collectives import allgather_object


class _Agreed:
    """Mixed in before a callback of Keras with a `monitor`."""

    monitor: str

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Decides by the value of the lowest rank that has one; it is in all ranks' logs then."""
        logs = {} if logs is None else logs
        with runtime.watch_exchange():
            values = allgather_object(logs.get(self.monitor))
        value = next((value for value in values if value is not None), None)
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
