"""What losses of encodings take: the encodings of items, or how alike those of pairs are."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.compact import inputs_by_side
from sharedlayers_dist.models.graph import run_graph
from sharedlayers_dist.models.independence import draws_random_numbers, keeps_rows_apart
from sharedlayers_dist.models.item_encoder import ItemEncoder
from sharedlayers_dist.models.pair import find_encoder

Gives = Literal["encodings", "pairs of encodings", "cosines", "distances"]


class EncodingView(keras.Model):
    """The shared encoder of a pair model, the same weights, reading compact items.

    ====================  ========================================  =======================
    `gives`               it takes                                  it gives
    ====================  ========================================  =======================
    "encodings"           items `(B, ...)`                          `(B, D)`
    "pairs of encodings"  both items of pairs in one, `(B, 2, ...)`  `(B, 2, D)`
    "cosines"             `{"a": (B, ...), "b": (B, ...)}`          their cosines, `(B, 1)`
    "distances"           the same                                  1 - cosine, `(B, 1)`
    ====================  ========================================  =======================

    What a compact item is `compact_view` says. The view trains the encoder alone: the pair model's
    head has no part in what it gives, but is among its variables, and `score` uses it.

    Args:
        model: A pair model with one encoder, called once on each of its two inputs.
        gives: See above.
        last: A layer that encodings go through at last, which a loss needs and the pair model has
            not; trained with the encoder.
        fast_paths: False to call the encoder as it is, once for each item.

    Raises:
        UserError: for a model without one shared encoder that gives a vector for each item.

    Example:
        >>> import numpy as np
        >>> from sharedlayers_dist.models import pair_classifier
        >>> encoder = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3)])
        >>> view = EncodingView(pair_classifier(encoder, "scaled_cosine"))
        >>> ids = np.array([[0, 0, 1, 4, 2, 2]])
        >>> view(ids).shape
        TensorShape([1, 3])
        >>> view.score(view(ids), view(ids)).shape
        TensorShape([1, 1])
    """

    def __init__(
        self,
        model: keras.Model,
        gives: Gives = "encodings",
        last: keras.Layer | None = None,
        *,
        fast_paths: bool = True,
    ) -> None:
        found = find_encoder(model)
        if found is None or len(found.encoded[0].shape) != 2:
            raise UserError(
                "A loss of encodings needs one encoder, used on both sides, that gives a vector "
                f"for each item. Received: the model {model.name!r}. Make it with "
                "`pair_classifier(encoder)`, or return the encoder alone."
            )
        super().__init__(name=f"encodings_of_{model.name}", dtype=model.dtype_policy)
        self.model = model
        self.gives = gives
        self.last = last
        if last is not None:
            last.build((None, found.encoded[0].shape[-1]))
        self._found = found
        self.shares_items = (
            fast_paths
            and gives in ("cosines", "distances")
            and keeps_rows_apart(found.layer)
            and not draws_random_numbers(found.layer)
        )
        """Whether it takes the different items of a batch, each once, as a compact view does."""
        self._encode = ItemEncoder(found, inputs_by_side(model)["a"], fast_paths=fast_paths)
        self.built = True

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The encoder's, and those of the last layer."""
        trained = [self._found.layer, *([] if self.last is None else [self.last])]
        return [variable for layer in trained for variable in layer.trainable_variables]

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """The same: what Keras trains."""
        return self.trainable_variables

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Gives what the class says of compact items."""
        if self.gives == "encodings":
            return self._finish(self.encode(inputs, training=training))
        if self.gives == "pairs of encodings":
            items = ops.reshape(inputs, (-1, *inputs.shape[2:]))
            encoded = self._finish(self.encode(items, training=training))
            return ops.reshape(encoded, (-1, 2, encoded.shape[-1]))
        cosines = self._compare(inputs, training)
        return cosines if self.gives == "cosines" else 1 - cosines

    def _finish(self, encodings: Any) -> Any:
        return encodings if self.last is None else self.last(encodings)

    def compare(self, a: Any, b: Any, *, training: bool | None = None) -> Any:
        """The cosines of the encodings of pairs of compact items, `(B, ...)` twice to `(B, 1)`."""
        return _cosines(*(self.encode(side, training=training) for side in (a, b)))

    def _compare(self, inputs: dict[str, Any], training: bool | None) -> Any:
        """The cosines of pairs of items, or of places among the different items of a batch."""
        if "items" not in inputs:
            return self.compare(inputs["a"], inputs["b"], training=training)
        encoded = self.encode(inputs["items"], training=training)
        return _cosines(*(ops.take(encoded, inputs[side], axis=0) for side in "ab"))

    def encode(self, items: Any, *, training: bool | None = None) -> Any:
        """Encodes compact items, `(B, ...) -> (B, D)`."""
        return self._encode(items, training=training, is_compiled=self.jit_compile)

    def score(self, encoded_a: Any, encoded_b: Any, *, training: bool | None = None) -> Any:
        """The pair model's scores of pairs of encodings, `(B, D)` and `(B, D)` to `(B, 1)`."""
        tensor_a, tensor_b = self._found.encoded
        known = {id(tensor_a): encoded_a, id(tensor_b): encoded_b}
        return run_graph(self.model, known, training=training)


class AllPairsView(EncodingView):
    """Trains a pair model, head and all, on all pairs of the items of a batch, each encoded once.

    It is fitted on items `(B, ...)` and integers `(B, 2)`: the group and the key of each item, -1
    for a row that is no item. The compiled loss is that of the pairs' scores: pairs of one group
    are positives, others negatives, apart from those of equal keys, which are no pair. Positives
    and negatives of a batch weigh the same in all, 1 on the mean, in the loss and in the weighted
    metrics.

    It needs the global batch: over several ranks `dist.prepare` gathers the encodings, and each
    rank scores all pairs, at once: memory grows with the square of the global batch.

    Args:
        model: A pair model with one encoder, called once on each of its two inputs.
        num_ranks: How many ranks compute the same; each adds its part of the metrics' sums.
        fast_paths: As in `EncodingView`.

    Raises:
        UserError: as `EncodingView`.

    Example:
        >>> import numpy as np
        >>> from sharedlayers_dist.models import pair_classifier
        >>> encoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> view = AllPairsView(pair_classifier(encoder, "comparison"))
        >>> view.compile("adam", "binary_crossentropy")
        >>> items, groups = np.eye(3, dtype="float32"), [5, 5, 8]
        >>> targets = np.stack([groups, np.arange(3)], axis=1)
        >>> history = view.fit(items, targets, verbose=0)  # 1 positive pair, 2 negative ones.
    """

    needs_global_batch = True

    def __init__(self, model: keras.Model, *, num_ranks: int = 1, fast_paths: bool = True) -> None:
        super().__init__(model, fast_paths=fast_paths)
        self._num_ranks = num_ranks
        self._scored: tuple[Any, Any, Any] | None = None
        """Labels, scores and weights of the step whose graph is being built."""

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Those of the pair model."""
        return self.model.trainable_variables

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the loss of all pairs of the encodings `y_pred`, `(B, D)`."""
        label, scores, weight = self._scored = self._score_pairs(y, y_pred, training)
        return super().compute_loss(x, label, scores, weight, training=training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the metrics with the pairs that the loss was computed of."""
        label, scores, weight = self._scored or self._score_pairs(y, y_pred, training=False)
        self._scored = None
        return super().compute_metrics(x, label, scores, weight / self._num_ranks)

    def _score_pairs(self, targets: Any, encodings: Any, training: bool) -> tuple[Any, Any, Any]:
        """Labels `(N, 1)`, scores `(N, 1)` and weights `(N,)` of the pairs of a batch's items."""
        group, key = targets[:, 0], targets[:, 1]
        number = ops.arange(ops.shape(group)[0])
        is_item = group >= 0
        is_pair = ops.logical_and(is_item[:, None], is_item[None, :])
        is_pair = ops.logical_and(is_pair, number[:, None] < number[None, :])
        same_group = ops.equal(group[:, None], group[None, :])
        equal_items = ops.equal(key[:, None], key[None, :])
        is_told = ops.logical_or(same_group, ops.logical_not(equal_items))
        first, second = ops.nonzero(ops.logical_and(is_pair, is_told))
        a, b = (ops.take(encodings, places, axis=0) for places in (first, second))
        label = ops.cast(ops.equal(ops.take(group, first), ops.take(group, second)), "float32")
        scores = self.score(a, b, training=training)
        return label[:, None], scores, _balance(label)


def _balance(label: Any) -> Any:
    """Weights of mean 1 with which positives and negatives count the same; 1 if all are alike."""
    positives, all_pairs = ops.sum(label), ops.cast(ops.shape(label)[0], "float32")
    has_both = ops.logical_and(positives > 0, positives < all_pairs)
    of_kind = ops.where(label > 0, positives, all_pairs - positives)
    return ops.where(has_both, all_pairs / (2 * of_kind), ops.ones_like(label))


def _cosines(a: Any, b: Any) -> Any:
    """The cosine of each row of `a` and the same row of `b`, `(B, 1)`."""
    return ops.sum(_at_length_one(a) * _at_length_one(b), axis=-1, keepdims=True)


def _at_length_one(encodings: Any) -> Any:
    """Encodings scaled to length 1 in 32 bits; one of length 0 stays, with finite gradients."""
    encodings = ops.cast(encodings, keras.backend.result_type(encodings.dtype, "float32"))
    squares = ops.sum(ops.square(encodings), axis=-1, keepdims=True)
    return encodings * ops.rsqrt(ops.where(squares <= 1e-24, 1.0, squares))
