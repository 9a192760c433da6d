"""Refusing options of losses that are out of their range, and shapes that a loss cannot be of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import keras
from keras import ops

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.losses.encodings import LEARNED


def require_above_zero(**options: float) -> None:
    """Refuses what is no finite number above 0.

    Raises:
        UserError: that names the option.

    Example:
        >>> require_above_zero(margin=0.5)
    """
    for name, value in options.items():
        if not isinstance(value, Real) or not 0 < value < math.inf:
            raise UserError(f"`{name}` must be a number above 0. Received: {name}={value!r}.")


def require_finite(**options: float) -> None:
    """Refuses what is no finite number.

    Raises:
        UserError: that names the option.

    Example:
        >>> require_finite(bias=-10.0)
    """
    for name, value in options.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise UserError(f"`{name}` must be a finite number. Received: {name}={value!r}.")


def require_temperature(temperature: float | str) -> float | str:
    """Refuses what is no temperature: neither a finite number above 0 nor "learned".

    Raises:
        UserError: with the value.

    Example:
        >>> require_temperature(1), require_temperature("learned")
        (1.0, 'learned')
    """
    if temperature == LEARNED:
        return LEARNED
    if not isinstance(temperature, Real) or not 0 < temperature < math.inf:
        raise UserError(
            f"`temperature` must be a number above 0, or {LEARNED!r}. Received: "
            f"temperature={temperature!r}."
        )
    return float(temperature)


def require_choice(choices: Iterable[object], **options: object) -> None:
    """Refuses what is none of the choices.

    Raises:
        UserError: that names the option and the choices.

    Example:
        >>> require_choice(("all", "hard"), mining="all")
    """
    for name, value in options.items():
        if value not in list(choices):
            listed = ", ".join(map(str, choices))
            raise UserError(f"`{name}` must be one of {listed}. Received: {name}={value!r}.")


def one_per_row(values: Any, name: str) -> Any:
    """Gives one number a row: shape (batch,) or (batch, 1) to (batch,).

    Args:
        values: A tensor or an array.
        name: What errors call it.

    Raises:
        UserError: for any other shape.

    Example:
        >>> tuple(one_per_row(ops.ones((3, 1)), "y_true").shape)
        (3,)
    """
    shape = tuple(values.shape)
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,), (None,)):
        raise UserError(
            f"`{name}` must hold one number a row, shape (batch,) or (batch, 1). Received: "
            f"{name}.shape={shape}."
        )
    return ops.reshape(values, (-1,))


def groups_and_keys(y_true: Any, keys_per_row: int) -> Any:
    """Gives each row's group, and its keys if there are any, as columns of one matrix.

    Args:
        y_true: Groups, shape (batch,) or (batch, 1), or groups and keys, shape (batch, 1 + keys).
        keys_per_row: How many keys a row has, if it has keys.

    Returns:
        Shape (batch, 1) or (batch, 1 + keys).

    Raises:
        UserError: for any other shape, and for keys that are no integers.

    Example:
        >>> tuple(groups_and_keys(ops.array([5, 8, 8]), 1).shape)
        (3, 1)
        >>> tuple(groups_and_keys(ops.array([[5, 17], [8, -2], [8, 17]]), 1).shape)
        (3, 2)
    """
    shape = tuple(y_true.shape)
    if len(shape) == 2 and shape[1] == 1 + keys_per_row:
        dtype = keras.backend.standardize_dtype(y_true.dtype)
        if "int" not in dtype:
            raise UserError(
                "Keys of items must be integers: as floats, different ones would be equal. "
                f"Received: y_true.dtype={dtype}, y_true.shape={shape}."
            )
        return y_true
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,), (None,)):
        columns = ("the key of its item", "the keys of both its items")[keys_per_row - 1]
        raise UserError(
            "`y_true` must hold the group of each row, shape (batch,) or (batch, 1), or its group "
            f"and {columns}, shape (batch, {1 + keys_per_row}). Received: y_true.shape={shape}."
        )
    return ops.reshape(y_true, (-1, 1))


def require_as_many_rows(y_true: Any, y_pred: Any) -> None:
    """Refuses targets of another number of rows than the outputs, where both are known.

    Raises:
        UserError: with both shapes.

    Example:
        >>> require_as_many_rows(ops.ones((3,)), ops.ones((3, 8)))
    """
    rows = {y_true.shape[0], y_pred.shape[0]} - {None}
    if len(rows) > 1:
        raise UserError(
            "`y_true` and `y_pred` must have as many rows. Received: "
            f"y_true.shape={tuple(y_true.shape)}, y_pred.shape={tuple(y_pred.shape)}."
        )
