"""Callbacks of a user's own, made on every rank by a function that an option names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import keras

from sharedlayers_dist import dist
from sharedlayers_dist.config import TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.user_code import UserCode, read_code

MakeOwnCallbacks = Callable[[TrainConfig], Sequence[keras.callbacks.Callback]]


def load_on_all_ranks(config: TrainConfig, code: UserCode | None = None) -> MakeOwnCallbacks:
    """Imports the function that `callbacks` names, on every rank from the text of rank zero.

    Args:
        config: The run's options; one that names no function makes no callbacks.
        code: The function's code, where that has been read elsewhere.

    Raises:
        UserError: for a function that is not there, cannot be imported, or does not take the run's
            options.
    """
    if not config.callbacks:
        return _make_none
    make = dist.call_on_rank_zero(lambda: code or read_code(config.callbacks)).load()
    try:
        signature(make).bind(config)
    except TypeError as error:
        raise UserError(
            "The function of `callbacks` is called with the run's TrainConfig. Received: "
            f"callbacks={config.callbacks!r} ({error}). Let it take one argument."
        ) from error
    return make


def make_callbacks(make: MakeOwnCallbacks, config: TrainConfig) -> list[keras.callbacks.Callback]:
    """Calls the function; on every rank, once the run's folder is there.

    Raises:
        UserError: for what is no list of callbacks.
    """
    made: Any = make(config)
    if not isinstance(made, list | tuple) or not all(
        isinstance(part, keras.callbacks.Callback) for part in made
    ):
        raise UserError(
            "The function of `callbacks` returns a list of Keras callbacks. Received: "
            f"callbacks={config.callbacks!r}, which returned {made!r}."
        )
    return [*made]


def _make_none(_: TrainConfig) -> list[keras.callbacks.Callback]:
    return []
