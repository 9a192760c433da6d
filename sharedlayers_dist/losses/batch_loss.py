"""What losses of a whole batch have in common: their precision, their weights, their mean."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.losses.blocks import Block, fold_blocks
from sharedlayers_dist.losses.checks import groups_and_keys, one_per_row, require_as_many_rows
from sharedlayers_dist.losses.groups import Relations, relate
from sharedlayers_dist.losses.precision import loss_dtype


class BatchLoss(keras.losses.Loss):
    """A loss in which each row's part depends on the other rows of the batch.

    So it is another loss if a batch is cut into parts: over several ranks it must be given the rows
    of all of them, which `needs_global_batch` says. Computed in float32 whatever the dtype of
    `y_pred` (in float64 where that is Keras's `floatx`). `y_true` keeps its dtype, since groups
    above 2 ** 24 would fall together in float32.

    There is no choice of a reduction: each loss says what it is the mean of.

    A subclass defines `compute`, and `check_outputs` for the shape of `y_pred`.

    Args:
        name: The loss's name.

    Example:
        >>> class Spread(BatchLoss):
        ...     '''How far the rows lie from their mean, which depends on all of them.'''
        ...
        ...     def check_outputs(self, y_pred):
        ...         return y_pred
        ...
        ...     def compute(self, y_true, y_pred, weights):
        ...         return ops.sum(weights[:, None] * ops.square(y_pred - ops.mean(y_pred, axis=0)))
        >>> float(Spread("spread")([0, 0], [[1.0], [3.0]]))
        2.0
    """

    needs_global_batch = True
    takes = "encodings"
    """What `y_pred` holds: distances, cosines, encodings, or pairs of encodings."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name, reduction="mean_with_sample_weight", dtype=loss_dtype())

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the loss of a batch, a scalar.

        Args:
            y_true: One number a row, shape (batch,) or (batch, 1), or more; see the loss.
            y_pred: The model's output for each row; see the loss.
            sample_weight: One weight a row, shape (batch,) or (batch, 1); 1 each by default.

        Raises:
            UserError: for shapes that the loss cannot be of.
        """
        with keras.name_scope(self.name):
            y_pred = ops.cast(ops.convert_to_tensor(y_pred), self.dtype)
            y_true = ops.convert_to_tensor(y_true)
            require_as_many_rows(y_true, y_pred)
            y_true = self.check_targets(y_true)
            weights = ops.ones((ops.shape(y_true)[0],), dtype=self.dtype)
            if sample_weight is not None:
                sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), self.dtype)
                weights = weights * ops.reshape(sample_weight, (-1,))
            return self.compute(y_true, self.check_outputs(y_pred), weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of a batch without weights, a scalar."""
        return self(y_true, y_pred)

    def check_targets(self, y_true: Any) -> Any:
        """Returns `y_true` as `compute` takes it: here one number a row, shape (batch,).

        Raises:
            UserError: if its shape isn't what the loss takes.
        """
        return one_per_row(y_true, "y_true")

    def check_outputs(self, y_pred: Any) -> Any:
        """Returns `y_pred` as `compute` takes it.

        Raises:
            UserError: if its shape isn't what the loss takes.
        """
        raise NotImplementedError

    def compute(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns the loss of a batch, a scalar.

        Args:
            y_true: What `check_targets` gave.
            y_pred: What `check_outputs` gave.
            weights: One weight a row, shape (batch,).
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal loss."""
        return {"name": self.name}


class LabelledPairsLoss(BatchLoss):
    """A loss of a batch in which each row is the distance or the cosine of a labelled pair."""

    def check_outputs(self, y_pred: Any) -> Any:
        """Returns one number a pair, shape (batch,).

        Raises:
            UserError: for more than one number a pair.
        """
        return one_per_row(y_pred, "y_pred")


class AnchorLoss(BatchLoss):
    """A loss of encodings: the weighted mean, over the anchors of the batch, of each one's loss.

    `y_true` holds the group of each row, an integer, shape (batch,) or (batch, 1); a row of -1 is
    no item (padding, or a row that was left out): neither an anchor nor a positive nor a negative.

    A second column may hold the key of each row's item, shape (batch, 2): any integer that equal
    items share, as a hash of the content. Rows of one key are no negatives for each other, whatever
    their groups; positives stay what they are. Above 32 bits, keys must be int64, on a backend that
    has it.

    `sample_weight` weighs anchors: with anchors' losses `l_i` and weights `w_i` the loss is
    `sum(w_i l_i) / sum(w_i)`, both over the anchors alone. An item of weight 0 is still a positive
    or a negative for the others. Without any anchor the loss is exactly 0, and so are its
    gradients.

    Large batches are computed in blocks, some anchors against all items at a time; memory, with the
    gradient, grows with the batch and not with its square.

    A subclass defines `anchor_losses`.

    Args:
        name: The loss's name.

    Example:
        >>> class Norm(AnchorLoss):
        ...     '''The squared length of each encoding: all items are anchors.'''
        ...
        ...     def anchor_losses(self, relations, anchors, items):
        ...         return ops.sum(ops.square(anchors), axis=1), relations.is_item
        >>> float(Norm("norm")([7, -1, 7], [[3.0], [9.0], [1.0]], sample_weight=[1, 1, 3]))
        3.0
    """

    keys_per_row = 1
    """How many items a row holds, each of which may have a key in `y_true`."""

    def check_targets(self, y_true: Any) -> Any:
        """Returns groups and keys, shape (batch, 1) or (batch, 1 + keys).

        Raises:
            UserError: for any other shape, and for keys that are no integers.
        """
        return groups_and_keys(y_true, self.keys_per_row)

    def check_outputs(self, y_pred: Any) -> Any:
        """Returns encodings, shape (batch, features).

        Raises:
            UserError: for any other shape.
        """
        return require_encodings(y_pred)

    def compute(self, y_true: Any, y_pred: Any, weights: Any) -> Any:
        """Returns the weighted mean over the anchors; see the class."""

        def sums(block: Block, y_pred: Any, weights: Any) -> Any:
            """The weighted sum of a block's losses, and the sum of their weights, shape (2,)."""
            relations = relate(block.take(y_true), y_true, block.places)
            losses, is_anchor = self.anchor_losses(relations, block.take(y_pred), y_pred)
            counts = ops.logical_and(is_anchor, block.is_new)
            weights = ops.where(counts, block.take(weights), 0.0)
            return ops.stack([ops.sum(weights * losses), ops.sum(weights)])

        initial = ops.zeros((2,), dtype=self.dtype)
        total, total_weight = ops.unstack(fold_blocks(sums, ops.add, initial, y_pred, weights))
        return ops.divide_no_nan(total, total_weight)

    def anchor_losses(self, relations: Relations, anchors: Any, items: Any) -> tuple[Any, Any]:
        """Returns the losses of some rows as anchors, and whether they are ones.

        It is called with one block of rows after the other, and must depend on nothing that is
        trained but by `anchors` and `items`, since each block is computed once more for its
        gradient. With no matrix larger than (anchors, batch), memory is that of a block.

        Args:
            relations: Which of the rows are items, and the positives and negatives of each among
                all rows.
            anchors: The rows of `items` that are asked for.
            items: What `check_outputs` gave, all rows of the batch.

        Returns:
            Floats and booleans of shape (anchors,); the losses of rows that are no anchors are
            finite, and not used.
        """
        raise NotImplementedError


class PairAnchorLoss(AnchorLoss):
    """A loss of anchors in which each row holds the encodings of both sides of a pair.

    `y_true` holds the group of each pair, shape (batch,) or (batch, 1); or its group, the key of
    its first item and the key of its second, shape (batch, 3). Two pairs that have an item in
    common, on whichever sides, are no negatives for each other.
    """

    takes = "pairs of encodings"
    keys_per_row = 2

    def check_outputs(self, y_pred: Any) -> Any:
        """Returns pairs of encodings, shape (batch, 2, features).

        Raises:
            UserError: for any other shape.
        """
        return require_pairs_of_encodings(y_pred)


def require_encodings(y_pred: Any) -> Any:
    """Returns encodings, shape (batch, features).

    Raises:
        UserError: for any other shape.

    Example:
        >>> tuple(require_encodings(ops.ones((4, 8))).shape)
        (4, 8)
    """
    if len(y_pred.shape) != 2:
        raise UserError(
            "`y_pred` must hold encodings, shape (batch, features). Received: "
            f"y_pred.shape={tuple(y_pred.shape)}."
        )
    return y_pred


def require_pairs_of_encodings(y_pred: Any) -> Any:
    """Returns pairs of encodings, shape (batch, 2, features).

    Raises:
        UserError: for any other shape.

    Example:
        >>> tuple(require_pairs_of_encodings(ops.ones((4, 2, 8))).shape)
        (4, 2, 8)
    """
    if len(y_pred.shape) != 3 or y_pred.shape[1] not in (2, None):
        raise UserError(
            "`y_pred` must hold the encodings of both sides of each pair, shape (batch, 2, "
            f"features). Received: y_pred.shape={tuple(y_pred.shape)}. "
            "`keras.ops.stack([encoded_a, encoded_b], axis=1)` makes it of two outputs."
        )
    return y_pred
