"""Online contrastive loss: of the pairs of a batch, only those that are hard beside the others."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.losses.batch_loss import LabelledPairsLoss
from sharedlayers_dist.losses.checks import require_above_zero, require_choice
from sharedlayers_dist.losses.precision import HUGE


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class OnlineContrastive(LabelledPairsLoss):
    """The contrastive loss of the hard pairs of a batch; all others cost nothing.

    A positive pair is hard if some negative pair is nearer than it, a negative pair if some
    positive pair is farther than it. With distances `D` the loss is

        (sum of D ** 2 over hard positive pairs
         + sum of max(0, margin - D) ** 2 over hard negative pairs) / number of pairs

    where pairs count by their weights. Where there is no negative pair, a positive pair is hard if
    it is farther than the mean of the positive ones; likewise the other way round.

    Source: `OnlineContrastiveLoss` of sentence-transformers 6.2, which is the sum and not the mean,
    so by the number of pairs larger. Earlier versions took the mean where there is one pair of the
    other kind, too.

    The batch: both kinds of pairs. Which pairs are hard depends on all of them, so the loss needs
    the global batch. A pair with a label other than 0 and 1, or with the weight 0, is no pair.

    Args:
        margin: The distance from which on a negative pair costs nothing; 0.5 suits cosine
            distances, which lie in [0, 2].
        positive_label: The label of positive pairs, 1 or 0.
        name: The loss's name.

    Call arguments:
        y_true: Labels, 0 or 1, or -1 for no pair, shape (batch,) or (batch, 1).
        y_pred: Distances, shape (batch, 1); no probabilities, see `check_output_layer`.
        sample_weight: Weights of the pairs, shape (batch,) or (batch, 1).

    Raises:
        UserError: for a margin that is not above 0, a label that is neither 0 nor 1, or shapes
            other than those.

    Example:
        >>> loss = OnlineContrastive(margin=0.5)
        >>> distances = [[0.1], [0.4], [0.3], [0.9]]
        >>> round(float(loss([1, 1, 0, 0], distances)), 4)  # (0.4 ** 2 + 0.2 ** 2) / 4
        0.05
    """

    takes = "distances"

    def __init__(
        self,
        margin: float = 0.5,
        *,
        positive_label: int = 1,
        name: str = "online_contrastive",
    ) -> None:
        require_above_zero(margin=margin)
        require_choice((1, 0), positive_label=positive_label)
        super().__init__(name)
        self.margin = float(margin)
        self.positive_label = int(positive_label)

    def compute(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns the mean over the pairs; see the class."""
        is_pair = weights > 0
        positive = ops.logical_and(is_pair, ops.equal(y_true, self.positive_label))
        negative = ops.logical_and(is_pair, ops.equal(y_true, 1 - self.positive_label))
        nearest_negative = _bound(y_pred, negative, positive)
        farthest_positive = -_bound(-y_pred, positive, negative)
        # Written as "not easy", so that a distance that is NaN shows in the loss.
        easy_positive = y_pred <= nearest_negative
        easy_negative = y_pred >= farthest_positive
        of_positive = ops.where(easy_positive, 0.0, ops.square(y_pred))
        of_negative = ops.where(easy_negative, 0.0, ops.square(ops.relu(self.margin - y_pred)))
        of_pair = ops.where(positive, of_positive, ops.where(negative, of_negative, 0.0))
        weights = ops.where(ops.logical_or(positive, negative), weights, 0.0)
        return ops.divide_no_nan(ops.sum(weights * of_pair), ops.sum(weights))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        own = {"margin": self.margin, "positive_label": self.positive_label}
        return {**super().get_config(), **own}


def _bound(values: Any, others: Any, own: Any) -> Any:
    """The least value of the others; the mean of one's own where there are none."""
    values = ops.stop_gradient(values)
    least = ops.min(ops.where(others, values, HUGE))
    num_own = ops.sum(ops.cast(own, values.dtype))
    mean = ops.divide_no_nan(ops.sum(ops.where(own, values, 0.0)), num_own)
    return ops.where(ops.any(others), least, mean)
