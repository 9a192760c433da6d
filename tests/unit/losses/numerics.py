"""Losses of arrays with their gradients, and what they are held against: loops and differences."""

import numpy as np
import tensorflow as tf


def value_and_gradient(loss, y_true, y_pred, weights=None):
    """The loss, and its gradient with respect to `y_pred`, both as NumPy."""
    y_pred = tf.constant(y_pred, "float32")
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(tf.constant(y_true), y_pred, weights)
    gradient = tape.gradient(value, y_pred)
    assert value.shape == ()
    assert value.dtype == tf.float32
    return float(value), tf.convert_to_tensor(gradient).numpy()


def numerical_gradient(function, y_pred, step=1e-6):
    """Central differences of a function of one float64 array."""
    gradient = np.zeros_like(y_pred)
    for place in np.ndindex(y_pred.shape):
        moved = y_pred.copy()
        moved[place] += step
        above = function(moved)
        moved[place] -= 2 * step
        gradient[place] = (above - function(moved)) / (2 * step)
    return gradient


def assert_agrees(loss, reference, y_true, y_pred, weights=None):
    """Holds value and gradient of a loss against `reference(y_true, y_pred, weights)`."""
    all_weights = np.ones(len(y_true)) if weights is None else weights
    value, gradient = value_and_gradient(loss, y_true, y_pred, weights)
    exact = y_pred.astype("float32").astype("float64")  # What the loss is given.
    np.testing.assert_allclose(value, reference(y_true, exact, all_weights), rtol=2e-5, atol=2e-6)
    expected = numerical_gradient(lambda moved: reference(y_true, moved, all_weights), exact)
    np.testing.assert_allclose(gradient, expected, rtol=2e-3, atol=1e-4)


def cosine(a, b):
    return float(a @ b) / (np.sqrt(a @ a) * np.sqrt(b @ b))


def is_item(targets, i):
    """Whether row i of the groups, or of the groups and keys, is an item."""
    return np.atleast_1d(targets[i])[0] >= 0


def others_by_group(targets, i):
    """The numbers of row i's positives and of its negatives, none of which shares a key with it."""
    group, *keys = (int(value) for value in np.atleast_1d(targets[i]))
    positive, negative = [], []
    for j in range(len(targets)):
        other_group, *other_keys = (int(value) for value in np.atleast_1d(targets[j]))
        if j == i or other_group < 0:
            continue
        if other_group == group:
            positive.append(j)
        elif not set(keys) & set(other_keys):
            negative.append(j)
    return positive, negative


def weighted_mean(costs, weights):
    """The mean of `{row: cost}`, 0 where there is none."""
    total = sum(weights[i] for i in costs)
    return sum(weights[i] * cost for i, cost in costs.items()) / total if total else 0.0


GROUPS = {
    "two groups": [0, 1, 0, 1, 1, 0, 0],
    "several groups": [4, 7, 4, 9, 7, 7, 2, 9],
    "with padding": [3, -1, 3, 5, -1, 5, 5, 8],
    "one group": [6, 6, 6, 6, 6],
    "no positives": [1, 2, 3, 4, 5],
    "one item": [-1, 2, -1],
    "nothing": [-1, -1, -1, -1],
    "large groups": [2**24, 2**24 + 1, 2**24, 2**24 + 1, 2**24 + 2],
    "two rows": [1, 1],
}
"""Groups of the rows of a batch, by what is special about them."""

LARGE = 2**62
KEYED = {
    "keys of their own": [[4, 0], [7, 1], [4, 2], [9, 3], [7, 4], [9, 5]],
    "equal items": [[4, 10], [7, -1], [4, -1], [9, 10], [7, 30], [9, 40], [2, 10], [7, -1]],
    "equal positives": [[1, 8], [1, 8], [2, 9], [2, 9], [1, 9]],
    "all items equal": [[3, 5], [4, 5], [3, 5], [4, 5]],
    "large keys": [
        [0, LARGE],
        [1, LARGE + 1],
        [0, -LARGE],
        [1, LARGE],
        [2, LARGE + 1],
        [2, -LARGE],
    ],
    "equal to no item": [[6, 1], [-1, 1], [5, 2], [6, 3], [-1, 2], [5, 1]],
}
"""Groups and keys of items."""
KEYED_PAIRS = {
    "keys of their own": [[4, 0, 1], [7, 2, 3], [4, 4, 5], [9, 6, 7]],
    "equal first items": [[0, 10, 11], [1, 10, 12], [2, 13, 14], [3, 15, 16]],
    "equal second items": [[0, 10, 11], [1, 12, 11], [2, 13, 14], [3, 15, 16]],
    "equal across the sides": [[0, 10, 11], [1, 11, 12], [2, 13, 10], [3, 14, 15], [0, 15, 16]],
    "pairs of one item": [[0, 7, 7], [1, 7, 8], [2, 9, 7], [3, 9, 9]],
    "large keys": [[0, LARGE, -1], [1, LARGE + 1, -2], [2, 3, LARGE], [-1, 3, -2], [3, 5, 6]],
}
"""Groups of pairs, and the keys of both their items."""


def draw(groups, seed, num_features=3, pairs=False):
    """Encodings and weights of a batch, in float64."""
    rng = np.random.default_rng(seed)
    shape = (len(groups), 2, num_features) if pairs else (len(groups), num_features)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], len(groups))
    return rng.normal(size=shape), weights
