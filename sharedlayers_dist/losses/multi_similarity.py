"""Multi-similarity loss: pairs chosen and weighed by how alike they are, beside the others."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.losses.batch_loss import AnchorLoss
from sharedlayers_dist.losses.checks import require_above_zero, require_finite
from sharedlayers_dist.losses.encodings import cosines
from sharedlayers_dist.losses.groups import Relations
from sharedlayers_dist.losses.precision import HUGE


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class MultiSimilarity(AnchorLoss):
    """The multi-similarity loss, with its mining.

    With the cosine `s` of two encodings, an anchor `i` keeps

        the negatives n with  s_in > (least s_ip of its positives) - epsilon
        the positives p with  s_ip < (greatest s_in of its negatives) + epsilon

    and costs

        log(1 + sum over kept p of exp(-alpha (s_ip - base))) / alpha
        + log(1 + sum over kept n of exp(beta (s_in - base))) / beta

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning
    (2019), section 4, where `base` is lambda. The encodings are scaled to length 1, as there. What
    is kept is not differentiated.

    The batch: groups with two items or more, and two groups or more. Rows that lack a positive or a
    negative keep nothing, and are no anchors. The mean is over the anchors, weighted by
    `sample_weight`; an anchor that keeps nothing costs 0, and counts.

    Args:
        alpha: How sharply positives are weighed.
        beta: How sharply negatives are weighed.
        base: The cosine from which on a negative is dear, and up to which a positive is.
        epsilon: How far from hard a pair may be, and still be kept; from 2 on all pairs are.
        name: The loss's name.

    Call arguments:
        y_true: The group of each item, integers, -1 for no item, shape (batch,) or (batch, 1); or
            its group and its key, shape (batch, 2).
        y_pred: Encodings, shape (batch, features).
        sample_weight: Weights of the anchors, shape (batch,) or (batch, 1).

    Raises:
        UserError: for numbers out of their range, or shapes other than those.

    Example:
        >>> loss = MultiSimilarity(alpha=2.0, beta=50.0, base=0.5, epsilon=0.1)
        >>> encodings = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
        >>> round(float(loss([5, 5, 8], encodings)), 4)  # (0.7568 + 0.9566) / 2
        0.8567
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float = 0.1,
        *,
        name: str = "multi_similarity",
    ) -> None:
        require_above_zero(alpha=alpha, beta=beta)
        require_finite(base=base, epsilon=epsilon)
        if epsilon < 0:
            raise UserError(f"`epsilon` must be at least 0. Received: epsilon={epsilon!r}.")
        super().__init__(name)
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.base = float(base)
        self.epsilon = float(epsilon)

    def anchor_losses(self, relations: Relations, anchors: Any, items: Any) -> tuple[Any, Any]:
        """Returns the loss of the pairs that each anchor keeps, and whether it has both kinds."""
        positive, negative = relations.positive, relations.negative
        similarity = cosines(anchors, items)
        least = ops.min(ops.where(positive, similarity, HUGE), axis=1, keepdims=True)
        greatest = ops.max(ops.where(negative, similarity, -HUGE), axis=1, keepdims=True)
        # Written as "not easy", so that an encoding that is NaN shows in the loss.
        easy_negative = similarity <= least - self.epsilon
        easy_positive = similarity >= greatest + self.epsilon
        kept_positive = ops.logical_and(positive, ops.logical_not(easy_positive))
        kept_negative = ops.logical_and(negative, ops.logical_not(easy_negative))
        above = similarity - self.base
        losses = _log1p_sum(-self.alpha * above, kept_positive) / self.alpha
        losses = losses + _log1p_sum(self.beta * above, kept_negative) / self.beta
        return losses, ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        own = {name: getattr(self, name) for name in ("alpha", "beta", "base", "epsilon")}
        return {**super().get_config(), **own}


def _log1p_sum(exponents: Any, is_kept: Any) -> Any:
    """`log(1 + sum of exp)` over what is kept of each row, without overflow."""
    kept = ops.where(is_kept, exponents, -HUGE)
    return ops.logsumexp(ops.pad(kept, ((0, 0), (1, 0))), axis=1)
