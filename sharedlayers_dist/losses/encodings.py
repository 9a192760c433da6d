"""How alike and how far apart the encodings of a batch are, with gradients that stay finite."""

from __future__ import annotations

from typing import Any

from keras import ops

LEARNED = "learned"
"""A temperature that is in the lengths of the encodings, as `LearnedTemperature` puts it there."""

_ROUNDING = 1e-6
"""Squared distances below this share of the squared lengths are rounding in float32."""


def normalize(encodings: Any) -> Any:
    """Scales each encoding to length 1; one of length 0 stays as it is, with finite gradients.

    Args:
        encodings: Floats of shape (..., features).

    Example:
        >>> normalize(ops.array([[0.0, 4.0], [0.0, 0.0]])).numpy().tolist()
        [[0.0, 1.0], [0.0, 0.0]]
    """
    squares = ops.sum(ops.square(encodings), axis=-1, keepdims=True)
    return encodings * ops.rsqrt(ops.where(squares <= 1e-24, 1.0, squares))


def cosines(a: Any, b: Any) -> Any:
    """The cosine of the angle between each row of `a` and each of `b`.

    Args:
        a: Encodings of shape (anchors, features).
        b: Encodings of shape (items, features).

    Returns:
        Shape (anchors, items), element (i, j) for row i of `a` and row j of `b`.

    Example:
        >>> round(float(cosines(ops.array([[1.0, 0.0]]), ops.array([[3.0, 4.0]]))[0, 0]), 4)
        0.6
    """
    return ops.matmul(normalize(a), ops.transpose(normalize(b)))


def logits(a: Any, b: Any, temperature: float | str) -> Any:
    """The cosine of each row of `a` and each of `b`, divided by a temperature.

    Args:
        a: Encodings of shape (anchors, features).
        b: Encodings of shape (items, features).
        temperature: A number; or "learned", where the layer `LearnedTemperature` has scaled the
            encodings so that their dot products are what is asked for.

    Returns:
        Shape (anchors, items), element (i, j) for row i of `a` and row j of `b`.

    Example:
        >>> a, b = ops.array([[1.0, 0.0]]), ops.array([[3.0, 4.0]])
        >>> round(float(logits(a, b, 0.1)[0, 0]), 4), float(logits(a, b, "learned")[0, 0])
        (6.0, 3.0)
    """
    if temperature == LEARNED:
        return ops.matmul(a, ops.transpose(b))
    return cosines(a, b) / temperature


def distances(anchors: Any, items: Any, distance: str) -> Any:
    """The distance of each anchor to each item of a batch.

    Computed by one matrix product, so that memory is a matter of anchors x items, and not of
    anchors x items x features. What then differs by rounding alone counts as equal: distance and
    gradient 0.

    Args:
        anchors: Encodings of shape (anchors, features), which are among `items`.
        items: Encodings of shape (items, features).
        distance: A name of `DISTANCES`.

    Returns:
        Shape (anchors, items).

    Example:
        >>> items = ops.array([[0.0, 0.0], [3.0, 4.0]])
        >>> distances(items[:1], items, "euclidean").numpy().round(4).tolist()
        [[0.0, 5.0]]
    """
    return DISTANCES[distance](anchors, items)


def _cosine(anchors: Any, items: Any) -> Any:
    return 1.0 - cosines(anchors, items)


def _squared_euclidean(anchors: Any, items: Any) -> Any:
    squared, is_equal = _squares(anchors, items)
    return ops.where(is_equal, 0.0, squared)


def _euclidean(anchors: Any, items: Any) -> Any:
    """The square root has no slope at 0; the inner `where` keeps it out of the gradient there."""
    squared, is_equal = _squares(anchors, items)
    return ops.where(is_equal, 0.0, ops.sqrt(ops.where(is_equal, 1.0, squared)))


def _squares(anchors: Any, items: Any) -> tuple[Any, Any]:
    """Squared distances, and which of them are 0 but for rounding; NaN is not."""
    # Distances don't know where the origin is; near the middle of the batch, least is lost.
    middle = ops.stop_gradient(ops.mean(items, axis=0, keepdims=True))
    anchors, items = anchors - middle, items - middle
    sums = _squared_lengths(anchors)[:, None] + _squared_lengths(items)[None, :]
    squared = sums - 2.0 * ops.matmul(anchors, ops.transpose(items))
    return squared, squared <= _ROUNDING * sums


def _squared_lengths(encodings: Any) -> Any:
    return ops.sum(ops.square(encodings), axis=1)


DISTANCES = {
    "euclidean": _euclidean,
    "squared_euclidean": _squared_euclidean,
    "cosine": _cosine,
}
