"""Refusing options of losses that are out of their range, and shapes that a loss cannot be of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from keras import ops

from sharedlayers_dist.errors import UserError


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
