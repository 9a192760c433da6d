"""Sigmoid loss of pairs: each two sides of the batch are a question of their own, pair or not."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.losses.batch_loss import PairAnchorLoss
from sharedlayers_dist.losses.checks import require_finite, require_temperature
from sharedlayers_dist.losses.encodings import logits as compute_logits
from sharedlayers_dist.losses.groups import Relations


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class SigmoidPairs(PairAnchorLoss):
    """The sigmoid loss of SigLIP: positive pairs that are each other's negatives, without softmax.

    With the cosine `s_ij` of the first side of pair i and the second side of pair j, and with
    `z_ij`, which is 1 where i is j and else -1, the two sides cost

        t_ij = -log sigmoid(z_ij (s_ij / temperature + bias))

    and pair i costs the sum of `(t_ij + t_ji) / 2` over `j`, which is `i` itself and all pairs of
    other groups. Pairs of the same group are false negatives, and left out, as are pairs that have
    an item in common with it, by the keys.

    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training (2023), section 3.2, where
    `temperature` is 1 / t. The encodings are scaled to length 1, as there. Its temperature and bias
    are learned, from the values that are the defaults here; here the temperature may be learned,
    and the bias is given. It answers for there being many more negatives than positives.

    The batch: positive pairs alone, of many groups. The mean is over the pairs, weighted by
    `sample_weight`, as the paper's: a sum over both sides, divided by the number of pairs.

    Args:
        temperature: What cosines are divided by. If "learned", `y_pred` must come from
            `LearnedTemperature`, which the paper begins at 0.1.
        bias: What is added to them then; it stays fixed.
        name: The loss's name.

    Call arguments:
        y_true: The group of each pair, integers, -1 for no pair, shape (batch,) or (batch, 1); or
            its group and the keys of its two items, shape (batch, 3).
        y_pred: Encodings of both sides, shape (batch, 2, features).
        sample_weight: Weights of the pairs, shape (batch,) or (batch, 1).

    Raises:
        UserError: for numbers out of their range, or shapes other than those.

    Example:
        >>> loss = SigmoidPairs(temperature=0.1, bias=-10.0)
        >>> pairs = [[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]
        >>> round(float(loss([5, 8], pairs)), 4)  # log(2), and hardly anything for the negatives
        0.6932
    """

    def __init__(
        self,
        temperature: float | str = 0.1,
        bias: float = -10.0,
        *,
        name: str = "sigmoid_pairs",
    ) -> None:
        temperature = require_temperature(temperature)
        require_finite(bias=bias)
        super().__init__(name)
        self.temperature = temperature
        self.bias = float(bias)

    def anchor_losses(self, relations: Relations, anchors: Any, items: Any) -> tuple[Any, Any]:
        """Returns the loss of each pair, and whether the row is one."""
        costs = self._ask(relations, anchors[:, 0], items[:, 1])
        costs = costs + self._ask(relations, anchors[:, 1], items[:, 0])
        return 0.5 * costs, relations.is_item

    def _ask(self, relations: Relations, anchors: Any, items: Any) -> Any:
        """What one side of each anchor costs with the other sides of all pairs."""
        logits = compute_logits(anchors, items, self.temperature) + self.bias
        costs = ops.softplus(ops.where(relations.itself, -logits, logits))
        asked = ops.logical_or(relations.itself, relations.negative)
        return ops.sum(ops.where(asked, costs, 0.0), axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "temperature": self.temperature, "bias": self.bias}
