"""CoSENT: pairs that are more alike get the larger cosine; a regression on ranks alone."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.losses.batch_loss import LabelledPairsLoss
from sharedlayers_dist.losses.blocks import Block, fold_blocks
from sharedlayers_dist.losses.checks import require_above_zero
from sharedlayers_dist.losses.precision import HUGE


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class CoSENT(LabelledPairsLoss):
    """The cosine regression of CoSENT, over all ordered pairs of pairs of a batch.

    With cosines `s` and similarities `y` of the pairs of the batch:

        log(1 + sum over all i, j with y_i > y_j of exp(scale (s_j - s_i)))

    Only the order of `y` matters. It takes similarities of any number of steps, and labels 0 and 1
    as well. The loss grows with the logarithm of the number of ordered pairs: it is no mean.

    Source: Su, CoSENT (2022), https://kexue.fm/archives/8847; Huang et al., CoSENT: Consistent
    Sentence Embedding via Similarity Ranking (2024); `CoSENTLoss` of sentence-transformers.

    The batch: pairs of different similarity; without two of them the loss is exactly 0. Each pair
    meets all others, so the loss needs the global batch. A pair's weight is as if it were there so
    many times, apart from its meeting itself: the exponential of two pairs counts `w_i w_j` times.

    Args:
        scale: How sharply an order that is wrong is told from one that is right.
        name: The loss's name.

    Call arguments:
        y_true: Similarities, larger for pairs that are more alike, shape (batch,) or (batch, 1).
        y_pred: Cosines, shape (batch, 1); no probabilities, see `check_output_layer`.
        sample_weight: Weights of the pairs, shape (batch,) or (batch, 1).

    Raises:
        UserError: for a scale that is not above 0, or shapes other than those.

    Example:
        >>> loss = CoSENT(scale=20)
        >>> round(float(loss([1.0, 0.5, 0.0], [[0.9], [0.3], [-0.2]])), 4)  # The order is right.
        0.0001
        >>> round(float(loss([0.5, 1.0, 0.0], [[0.9], [0.3], [-0.2]])), 4)
        12.0
    """

    takes = "cosines"

    def __init__(self, scale: float = 20.0, *, name: str = "cosent") -> None:
        require_above_zero(scale=scale)
        super().__init__(name)
        self.scale = float(scale)

    def compute(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns the loss of the batch; see the class."""
        is_pair = weights > 0
        logs = ops.where(is_pair, ops.log(ops.where(is_pair, weights, 1.0)), -HUGE)

        def of_block(block: Block, y_pred: Any, logs: Any) -> Any:
            """The logarithm of a block's sum; row i, column j: how far pair j is above pair i."""
            above = self.scale * (y_pred[None, :] - block.take(y_pred)[:, None])
            above = above + logs[None, :] + block.take(logs)[:, None]
            is_ordered = block.take(y_true)[:, None] > y_true[None, :]
            counts = ops.logical_and(is_ordered, block.is_new[:, None])
            return ops.logsumexp(ops.where(counts, above, -HUGE))

        def add(a: Any, b: Any) -> Any:
            return ops.logsumexp(ops.stack([a, b]))

        return fold_blocks(of_block, add, ops.zeros((), dtype=self.dtype), y_pred, logs)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        return {**super().get_config(), "scale": self.scale}
