"""A run whose loss or weights are not finite has nothing left to learn, and ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

_REMEDY = (
    "Start another run from the last checkpoint with --initialize-from and a smaller "
    "--learning-rate."
)


class NotFiniteError(RuntimeError):
    """NaN or infinity in what is the same on all ranks, so that all of them raise this."""

    raised_on_all_ranks = True


def require_finite_loss(metrics: Mapping[str, float], step: int) -> None:
    """Raises NotFiniteError unless the loss over all ranks is finite."""
    if not math.isfinite(metrics["loss"]):
        raise NotFiniteError(
            f"The loss must stay finite. Received: loss={metrics['loss']} at step {step}. {_REMEDY}"
        )


def require_finite_weights(
    variables: Iterable[keras.Variable], arrays: Iterable[np.ndarray], step: int
) -> None:
    """Raises NotFiniteError unless every weight is finite: the state is not worth keeping."""
    for variable, array in zip(variables, arrays, strict=True):
        if not np.isfinite(array).all():
            raise NotFiniteError(
                f"Weights must stay finite. Received: NaN or infinity in {variable.path} at step "
                f"{step}. {_REMEDY}"
            )
