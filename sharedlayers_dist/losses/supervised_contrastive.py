"""Supervised contrastive loss: all positives of an anchor against all other items of the batch."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.losses.batch_loss import AnchorLoss
from sharedlayers_dist.losses.checks import require_temperature
from sharedlayers_dist.losses.encodings import logits as compute_logits
from sharedlayers_dist.losses.groups import Relations
from sharedlayers_dist.losses.precision import HUGE


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class SupervisedContrastive(AnchorLoss):
    """The supervised contrastive loss, with the mean outside of the logarithm.

    With the cosine `s` of two encodings, an anchor `i` with the positives `P` costs

        mean over p in P of  -log( exp(s_ip / temperature)
                                   / sum over all items a but i of exp(s_ia / temperature) )

    Source: Khosla et al., Supervised Contrastive Learning (2020), equation 2. The encodings are
    scaled to length 1, as there. The paper's loss is a sum over the anchors; this is the mean,
    weighted by `sample_weight`.

    The batch: groups with two items or more; rows without a positive are no anchors, but negatives
    for others. With one group alone there is nothing to tell it from, but the loss is not 0: it
    pushes the group's items to be equally far from each other.

    Args:
        temperature: The smaller, the more the nearest negatives count. If "learned", `y_pred` must
            come from `LearnedTemperature`.
        name: The loss's name.

    Call arguments:
        y_true: The group of each item, integers, -1 for no item, shape (batch,) or (batch, 1); or
            its group and its key, shape (batch, 2).
        y_pred: Encodings, shape (batch, features).
        sample_weight: Weights of the anchors, shape (batch,) or (batch, 1).

    Raises:
        UserError: for a temperature that is neither above 0 nor "learned", or shapes other than
            those.

    Example:
        >>> loss = SupervisedContrastive(temperature=1.0)
        >>> encodings = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
        >>> round(float(loss([5, 5, 8], encodings)), 4)  # log(1 + exp(0 - 1))
        0.3133
    """

    def __init__(
        self, temperature: float | str = 0.1, *, name: str = "supervised_contrastive"
    ) -> None:
        temperature = require_temperature(temperature)
        super().__init__(name)
        self.temperature = temperature

    def anchor_losses(self, relations: Relations, anchors: Any, items: Any) -> tuple[Any, Any]:
        """Returns the mean over each anchor's positives, and whether it has any."""
        positive, negative = relations.positive, relations.negative
        logits = compute_logits(anchors, items, self.temperature)
        others = ops.where(ops.logical_or(positive, negative), logits, -HUGE)
        costs = ops.logsumexp(others, axis=1, keepdims=True) - logits
        num_positives = ops.sum(ops.cast(positive, costs.dtype), axis=1)
        total = ops.sum(ops.where(positive, costs, 0.0), axis=1)
        return ops.divide_no_nan(total, num_positives), num_positives > 0

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "temperature": self.temperature}
