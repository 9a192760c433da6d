"""In-batch negatives: each pair's second side against the second sides of all other pairs."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.losses.batch_loss import PairAnchorLoss
from sharedlayers_dist.losses.checks import require_temperature
from sharedlayers_dist.losses.encodings import logits as compute_logits
from sharedlayers_dist.losses.groups import Relations
from sharedlayers_dist.losses.precision import HUGE


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class InBatchNegatives(PairAnchorLoss):
    """The loss of positive pairs that are each other's negatives: InfoNCE, multiple negatives.

    With the cosine `s_ij` of the first side of pair i and the second side of pair j, pair i costs

        -log( exp(s_ii / temperature) / sum over j of exp(s_ij / temperature) )

    where `j` is `i` itself and all pairs of other groups. Pairs of the same group are false
    negatives, and left out, as are pairs that have an item in common with it, by the keys. If
    `symmetric`, a pair costs the mean of that and of the same with the sides exchanged, where the
    sum is over `s_ji`.

    Source: van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive Coding
    (2018), the loss InfoNCE; Henderson et al., Efficient Natural Language Response Suggestion for
    Smart Reply (2017); both sides, and encodings scaled to length 1: Radford et al., Learning
    Transferable Visual Models From Natural Language Supervision (2021), figure 3.

    The batch: positive pairs alone, of many groups. The more pairs, the harder: over several ranks
    it must be the global batch. The mean is over the pairs, weighted by `sample_weight`; a pair of
    weight 0 is still a negative for the others.

    Args:
        temperature: The smaller, the more the nearest negatives count; 0.05 is a scale of 20. If
            "learned", `y_pred` must come from `LearnedTemperature`.
        symmetric: Whether the first sides are told apart by the second ones, too.
        name: The loss's name.

    Call arguments:
        y_true: The group of each pair, integers, -1 for no pair, shape (batch,) or (batch, 1); or
            its group and the keys of its two items, shape (batch, 3).
        y_pred: Encodings of both sides, shape (batch, 2, features).
        sample_weight: Weights of the pairs, shape (batch,) or (batch, 1).

    Raises:
        UserError: for a temperature that is neither above 0 nor "learned", or shapes other than
            those.

    Example:
        >>> loss = InBatchNegatives(temperature=1.0)
        >>> pairs = [[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]
        >>> round(float(loss([5, 8], pairs)), 4)  # log(1 + exp(0 - 1))
        0.3133
        >>> float(loss([5, 5], pairs))  # False negatives alone.
        0.0
        >>> a, b = keras.Input((8,)), keras.Input((8,))
        >>> encode = keras.layers.Dense(4)
        >>> model = keras.Model([a, b], keras.ops.stack([encode(a), encode(b)], axis=1))
        >>> model.compile("adam", loss=loss)
    """

    def __init__(
        self,
        temperature: float | str = 0.05,
        *,
        symmetric: bool = True,
        name: str = "in_batch_negatives",
    ) -> None:
        temperature = require_temperature(temperature)
        super().__init__(name)
        self.temperature = temperature
        self.symmetric = bool(symmetric)

    def anchor_losses(self, relations: Relations, anchors: Any, items: Any) -> tuple[Any, Any]:
        """Returns the loss of each pair, and whether the row is one."""
        losses = self._tell_apart(relations, anchors[:, 0], items[:, 1])
        if self.symmetric:
            losses = 0.5 * (losses + self._tell_apart(relations, anchors[:, 1], items[:, 0]))
        return losses, relations.is_item

    def _tell_apart(self, relations: Relations, anchors: Any, items: Any) -> Any:
        """What it costs to find the other side of each anchor among those of all pairs."""
        logits = compute_logits(anchors, items, self.temperature)
        asked = ops.logical_or(relations.itself, relations.negative)
        right = ops.sum(ops.where(relations.itself, logits, 0.0), axis=1)
        return ops.logsumexp(ops.where(asked, logits, -HUGE), axis=1) - right

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        own = {"temperature": self.temperature, "symmetric": self.symmetric}
        return {**super().get_config(), **own}
