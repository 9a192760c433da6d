"""How a pair model compares the encodings of its two sides: encodings to a score in (0, 1).

Each head is built from Keras's own layers and operations, so that a saved model opens in plain
Keras without this package.

The notebook's head, `concatenation`, is a logistic regression on both encodings side by side. Its
logit is a sum of one term for each side, `u . e(a) + v . e(b) + c`, so that for any four items

    logit(a, b) + logit(c, d) == logit(a, d) + logit(c, b).

"Written by the same author" is not such a sum: let a and b be one author's, c and d another's.
The pairs (a, b) and (c, d) should score high, (a, d) and (c, b) low, and the equation forbids it.
It can learn which items turn up in positive pairs; where pairs are balanced, each item in as many
negative pairs as positive ones, there is no such thing to learn, and pairs of unseen authors score
at chance, however good the encoder is. The other heads compare the sides, and are symmetric: the
score of (a, b) is that of (b, a).

Under a policy of mixed precision the encoder works in 16 bits and the heads in 32: in 16 bits there
are so few numbers near 1 that many pairs would get the same score.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.graph import calls_in_model


def concatenation(encoded_a: Any, encoded_b: Any) -> Any:
    """The notebook's head: both encodings side by side, then a logistic regression.

    Not symmetric, and additive in the two sides: it cannot say "the same or not"; see the module.

    Args:
        encoded_a: Encodings of the first side, shape (B, D).
        encoded_b: Encodings of the second side, shape (B, D).

    Returns:
        The scores, shape (B, 1), float32; 2 D + 1 weights.

    Example:
        >>> sides = keras.Input((8,)), keras.Input((8,))
        >>> concatenation(*sides).shape
        (None, 1)
    """
    return _logistic_regression(keras.layers.Concatenate(axis=-1)([encoded_a, encoded_b]))


def absolute_difference(encoded_a: Any, encoded_b: Any) -> Any:
    """Symmetric: a logistic regression on `|encoded_a - encoded_b|`, one weight a dimension.

    Args:
        encoded_a: Encodings of the first side, shape (B, D).
        encoded_b: Encodings of the second side, shape (B, D).

    Returns:
        The scores, shape (B, 1), float32; D + 1 weights.

    Source: Koch, Zemel and Salakhutdinov, Siamese Neural Networks for One-shot Image Recognition
    (2015), section 3.1.

    Example:
        >>> sides = keras.Input((8,)), keras.Input((8,))
        >>> absolute_difference(*sides).shape
        (None, 1)
    """
    difference = keras.layers.Subtract(dtype=full_precision())([encoded_a, encoded_b])
    return _logistic_regression(keras.ops.absolute(difference))


def cosine(encoded_a: Any, encoded_b: Any) -> Any:
    """Symmetric: a logistic regression on the cosine of the angle between the encodings.

    Its scale, a learned weight, starts at 1: the more alike, the higher the score.

    Args:
        encoded_a: Encodings of the first side, shape (B, D).
        encoded_b: Encodings of the second side, shape (B, D).

    Returns:
        The scores, shape (B, 1), float32; 2 weights, scale and bias.

    Example:
        >>> sides = keras.Input((8,)), keras.Input((8,))
        >>> cosine(*sides).shape
        (None, 1)
    """
    compare = keras.layers.Dot(axes=-1, normalize=True, dtype=full_precision())
    return _logistic_regression(compare([encoded_a, encoded_b]), kernel_initializer="ones")


def scaled_cosine(encoded_a: Any, encoded_b: Any) -> Any:
    """Symmetric: `cosine` with a scale that starts at 10 and a bias that starts at -5.

    A cosine lies in [-1, 1]. With a scale of 1 no score can leave (0.27, 0.73), and the scale takes
    thousands of steps to grow; from 10 on, gradients tell alike pairs from unlike ones at once.

    Args:
        encoded_a: Encodings of the first side, shape (B, D).
        encoded_b: Encodings of the second side, shape (B, D).

    Returns:
        The scores, shape (B, 1), float32; 2 weights, scale and bias.

    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training (2023), section 3.2, with a
    smaller bias, since here about half of the pairs are positive.

    Example:
        >>> sides = keras.Input((8,)), keras.Input((8,))
        >>> scaled_cosine(*sides).shape
        (None, 1)
    """
    compare = keras.layers.Dot(axes=-1, normalize=True, dtype=full_precision())
    return _logistic_regression(
        compare([encoded_a, encoded_b]),
        kernel_initializer=keras.initializers.Constant(10.0),
        bias_initializer=keras.initializers.Constant(-5.0),
    )


def comparison(encoded_a: Any, encoded_b: Any) -> Any:
    """Symmetric: a network of one hidden layer on `|a - b|` and `a * b`, feature by feature.

    Unlike the other heads it can say which features must agree, and which together. What it is
    given is normalised first, to mean 0 and variance 1 over all 2 D numbers of a pair.

    Args:
        encoded_a: Encodings of the first side, shape (B, D).
        encoded_b: Encodings of the second side, shape (B, D).

    Returns:
        The scores, shape (B, 1), float32; 132 D + 129 weights.

    Source: Conneau et al., Supervised Learning of Universal Sentence Representations from Natural
    Language Inference Data (2017), section 3.1, without the encodings themselves, which would make
    it depend on the order.

    Example:
        >>> sides = keras.Input((8,)), keras.Input((8,))
        >>> comparison(*sides).shape
        (None, 1)
    """
    dtype = full_precision()
    sides = [encoded_a, encoded_b]
    difference = keras.ops.absolute(keras.layers.Subtract(dtype=dtype)(sides))
    product = keras.layers.Multiply(dtype=dtype)(sides)
    features = keras.layers.Concatenate(dtype=dtype)([difference, product])
    features = keras.layers.LayerNormalization(dtype=dtype)(features)
    hidden = keras.layers.Dense(64, activation="relu", dtype=dtype)(features)
    return _logistic_regression(hidden)


HEADS: dict[str, Callable[[Any, Any], Any]] = {
    "concatenation": concatenation,
    "absolute_difference": absolute_difference,
    "cosine": cosine,
    "scaled_cosine": scaled_cosine,
    "comparison": comparison,
}


def apply_head(head: str | keras.Layer, encoded_a: Any, encoded_b: Any) -> Any:
    """Applies a head, given by its name or as a layer that takes both encodings as a list.

    Args:
        head: A name of `HEADS`, or a Keras layer.
        encoded_a: Encodings of the first side, for the named heads of shape (B, D).
        encoded_b: Encodings of the second side, of the same shape.

    Returns:
        The scores, shape (B, 1) and at least float32; what the layer gives where it is one of one's
        own, with a warning if that has 16 bits.

    Raises:
        UserError: for an unknown name, something that is no layer, or encodings that the named
            heads cannot compare.

    Example:
        >>> apply_head("cosine", keras.Input((8,)), keras.Input((8,))).shape
        (None, 1)
    """
    if isinstance(head, keras.Layer):
        scores = head([encoded_a, encoded_b])
        if any("float16" in tensor.dtype for tensor in keras.tree.flatten(scores)):
            warnings.warn(
                f"The head {head.name} gives scores of 16 bits, many of which will be equal. Make "
                'its last layer with dtype="float32".',
                stacklevel=3,
            )
        return scores
    if not isinstance(head, str) or head not in HEADS:
        raise UserError(
            f"`head` must be one of {', '.join(HEADS)}, or a Keras layer. Received: head={head!r}."
        )
    if len(encoded_a.shape) != 2:
        raise UserError(
            f"The head {head} compares encodings of shape (batch, features). Received: an encoder "
            f"with the output shape {tuple(encoded_a.shape)}. End it with `Flatten` or a pooling "
            "layer."
        )
    return HEADS[head](encoded_a, encoded_b)


def find_cosine_head(model: keras.Model) -> keras.layers.Dense | None:
    """Finds the logistic regression that makes a pair model's score of the cosine of its encodings.

    It is there under the heads `cosine` and `scaled_cosine`; with others the answer is None.

    Args:
        model: A functional pair model.

    Example:
        >>> sides = keras.Input((8,)), keras.Input((8,))
        >>> head = find_cosine_head(keras.Model(sides, scaled_cosine(*sides)))
        >>> [weight.tolist() for weight in head.get_weights()]
        [[[10.0]], [-5.0]]
    """
    calls = {id(tensor): call for call in calls_in_model(model) for tensor in call.outputs}
    last = calls[id(model.outputs[0])]
    compare = calls.get(id(last.called_on))
    is_logistic = (
        isinstance(last.layer, keras.layers.Dense)
        and last.layer.activation is keras.activations.sigmoid
        and last.layer.use_bias
        and last.layer.units == 1
    )
    if not is_logistic or compare is None or not isinstance(compare.layer, keras.layers.Dot):
        return None
    return last.layer if compare.layer.normalize else None


def _logistic_regression(features: Any, **options: Any) -> Any:
    layer = keras.layers.Dense(1, activation="sigmoid", dtype=full_precision(), **options)
    return layer(features)


def full_precision() -> str:
    """The dtype of a model's last layers: Keras's own, but 32 bits where its policy says 16.

    Example:
        >>> full_precision()
        'float32'
    """
    return keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")
