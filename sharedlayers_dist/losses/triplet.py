"""Triplet loss: a positive is to be nearer to its anchor than a negative is, by a margin."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.losses.batch_loss import AnchorLoss
from sharedlayers_dist.losses.checks import require_above_zero, require_choice
from sharedlayers_dist.losses.counting import count_below
from sharedlayers_dist.losses.encodings import DISTANCES, distances
from sharedlayers_dist.losses.groups import Relations
from sharedlayers_dist.losses.precision import HUGE


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class Triplet(AnchorLoss):
    """The triplet loss, with the triplets found within the batch.

    A triplet of an anchor `a`, a positive `p` and a negative `n` costs, with distances `D`,

        max(0, D(a, p) - D(a, n) + margin)

    and an anchor costs the mean over its triplets, which `mining` chooses:

    - "all": every positive with every negative ("batch all" of Hermans, Beyer and Leibe, In Defense
      of the Triplet Loss for Person Re-Identification, 2017; the mean counts triplets that cost 0).
    - "hard": the farthest positive with the nearest negative, one triplet ("batch hard" there).
    - "semi-hard": every positive with the nearest of the negatives that are farther away than it
      (Schroff, Kalenichenko and Philbin, FaceNet, 2015, section 3.2); where none is, with the
      farthest negative. Of negatives at the same distance, one is taken.

    Triplets are counted, not made, so that memory is a matter of anchors x items.

    The distances "euclidean", which Hermans et al. use, and "squared_euclidean" compare encodings
    as they are. "cosine", 1 - cosine, compares them at length 1, as Schroff et al. do: the squared
    distance at length 1 is twice the cosine distance, so that their margin is twice this one.
    Items of equal encodings have the distance 0, and gradients that are finite.

    The batch: groups with two items or more, and two groups or more. Rows that lack a positive or a
    negative are no anchors. The mean is over the anchors, weighted by `sample_weight`.

    Args:
        margin: By how much a positive is to be nearer than a negative.
        mining: Which triplets count: "all", "hard" or "semi-hard".
        distance: "euclidean", "squared_euclidean" or "cosine".
        name: The loss's name.

    Call arguments:
        y_true: The group of each item, integers, -1 for no item, shape (batch,) or (batch, 1); or
            its group and its key, shape (batch, 2).
        y_pred: Encodings, shape (batch, features).
        sample_weight: Weights of the anchors, shape (batch,) or (batch, 1).

    Raises:
        UserError: for a margin that is not above 0, unknown names, or shapes other than those.

    Example:
        >>> loss = Triplet(margin=1.0, mining="hard")
        >>> float(loss([5, 5, 8, -1], [[0.0], [2.0], [3.0], [0.0]]))  # 0 and 2 - 1 + 1
        1.0
        >>> encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> encoder.compile("adam", loss=loss)
    """

    def __init__(
        self,
        margin: float = 0.2,
        *,
        mining: str = "semi-hard",
        distance: str = "euclidean",
        name: str = "triplet",
    ) -> None:
        require_above_zero(margin=margin)
        require_choice(_MINING, mining=mining)
        require_choice(DISTANCES, distance=distance)
        super().__init__(name)
        self.margin = float(margin)
        self.mining = mining
        self.distance = distance

    def anchor_losses(self, relations: Relations, anchors: Any, items: Any) -> tuple[Any, Any]:
        """Returns the mean over each anchor's triplets, and whether it has any."""
        positive, negative = relations.positive, relations.negative
        distance = distances(anchors, items, self.distance)
        losses = _MINING[self.mining](distance, positive, negative, self.margin)
        return losses, ops.logical_and(ops.any(positive, axis=1), ops.any(negative, axis=1))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        own = {"margin": self.margin, "mining": self.mining, "distance": self.distance}
        return {**super().get_config(), **own}


def _all(distance: Any, positive: Any, negative: Any, margin: float) -> Any:
    """Counts in how many triplets that cost something each distance is; no triplet is made.

    How many these are has no gradient, and the sum over the distances, each so many times, has the
    one of the sum over the triplets.
    """
    bound = distance + margin  # Negatives that are nearer than this cost something.
    num_positives, num_negatives = _count(positive, distance), _count(negative, distance)
    below = count_below(ops.sort(_orderable(distance, negative), axis=1), bound)
    not_above = count_below(ops.sort(_orderable(bound, positive), axis=1), distance, or_equal=True)
    times_as_positive = ops.cast(below, distance.dtype)
    times_as_negative = num_positives[:, None] - ops.cast(not_above, distance.dtype)
    of_positives = ops.where(positive, times_as_positive * bound, 0.0)
    of_negatives = ops.where(negative, times_as_negative * distance, 0.0)
    total = ops.sum(of_positives, axis=1) - ops.sum(of_negatives, axis=1)
    return ops.divide_no_nan(total, num_positives * num_negatives)


def _hard(distance: Any, positive: Any, negative: Any, margin: float) -> Any:
    farthest = ops.max(ops.where(positive, distance, -HUGE), axis=1)
    nearest = ops.min(ops.where(negative, distance, HUGE), axis=1)
    return ops.relu(farthest - nearest + margin)


def _semi_hard(distance: Any, positive: Any, negative: Any, margin: float) -> Any:
    """Each positive's place among the sorted negatives says which one is the next farther."""
    orderable = ops.stop_gradient(_orderable(distance, negative))
    order = ops.argsort(orderable, axis=1)
    nearer = count_below(ops.take_along_axis(orderable, order, axis=1), distance, or_equal=True)
    last = ops.sum(ops.cast(negative, "int32"), axis=1, keepdims=True) - 1
    place = ops.maximum(ops.minimum(nearer, last), 0)
    chosen = ops.take_along_axis(distance, ops.take_along_axis(order, place, axis=1), axis=1)
    return _mean(ops.relu(distance - chosen + margin), positive)


def _orderable(distance: Any, is_counted: Any) -> Any:
    """Puts behind everything else what does not count, and NaN, which has no place in an order."""
    return ops.where(ops.logical_and(is_counted, distance < HUGE), distance, HUGE)


def _mean(values: Any, is_counted: Any) -> Any:
    total = ops.sum(ops.where(is_counted, values, 0.0), axis=1)
    return ops.divide_no_nan(total, _count(is_counted, values))


def _count(is_counted: Any, like: Any) -> Any:
    return ops.sum(ops.cast(is_counted, like.dtype), axis=1)


_MINING = {"all": _all, "hard": _hard, "semi-hard": _semi_hard}
