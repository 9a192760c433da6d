"""Contrastive loss: positive pairs are drawn together, negative ones pushed apart to a margin."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.losses.checks import (
    one_per_row,
    require_above_zero,
    require_as_many_rows,
    require_choice,
)
from sharedlayers_dist.losses.precision import loss_dtype


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class Contrastive(keras.losses.Loss):
    """The contrastive loss of listed pairs, each for itself.

    With the distance `D` of a pair and its label `Y`, which is 0 for a positive pair:

        (1 - Y) D ** 2 / 2  +  Y max(0, margin - D) ** 2 / 2

    Source: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping
    (2006), the loss with a margin for single pairs. The paper labels positive pairs 0, which is
    `positive_label=0`; pair datasets of this package and most others label them 1, the default.

    The model must give distances: at least 0, and free to pass the margin. A sigmoid head gives
    probabilities, which are large for positive pairs, the wrong way round, and never above 1:
    `check_output_layer` refuses it. A square root as the model's last step has no gradient at 0; a
    cosine distance has one, as in the example.

    Computed in float32 whatever the dtype of `y_pred`. To leave a pair out, give it the weight 0.

    Args:
        margin: The distance from which on a negative pair costs nothing.
        positive_label: The label of positive pairs, 1 or 0.
        reduction: Keras's; by default the mean over the pairs.
        name: The loss's name.

    Call arguments:
        y_true: Labels, 0 or 1, shape (batch,) or (batch, 1).
        y_pred: Distances, shape (batch, 1).
        sample_weight: Weights of the pairs, shape (batch,) or (batch, 1).

    Raises:
        UserError: for a margin that is not above 0, a label that is neither 0 nor 1, or shapes
            other than those.

    Example:
        >>> labels, distances = keras.ops.array([1, 0, 0]), keras.ops.array([[0.2], [0.8], [3.0]])
        >>> round(float(Contrastive(margin=1.0)(labels, distances)), 4)  # (0.02 + 0.02 + 0) / 3
        0.0133
        >>> a, b = keras.Input((8,)), keras.Input((8,))
        >>> distance = 1.0 - keras.layers.Dot(axes=-1, normalize=True)([a, b])
        >>> model = keras.Model([a, b], distance)
        >>> model.compile("adam", loss=Contrastive(margin=0.5))
    """

    needs_global_batch = False
    takes = "distances"

    def __init__(
        self,
        margin: float = 1.0,
        *,
        positive_label: int = 1,
        reduction: str = "sum_over_batch_size",
        name: str = "contrastive",
    ) -> None:
        require_above_zero(margin=margin)
        require_choice((1, 0), positive_label=positive_label)
        super().__init__(name=name, reduction=reduction, dtype=loss_dtype())
        self.margin = float(margin)
        self.positive_label = int(positive_label)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each pair, shape (batch,)."""
        require_as_many_rows(y_true, y_pred)
        distance = one_per_row(y_pred, "y_pred")
        label = ops.cast(one_per_row(y_true, "y_true"), distance.dtype)
        is_positive = label if self.positive_label else 1.0 - label
        too_near = ops.relu(self.margin - distance)
        both = is_positive * ops.square(distance) + (1.0 - is_positive) * ops.square(too_near)
        return 0.5 * both

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        own = {"margin": self.margin, "positive_label": self.positive_label}
        return {**super().get_config(), **own}
