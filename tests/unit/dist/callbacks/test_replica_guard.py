"""How the guard makes its checksums of weights, and reads them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist.dist.callbacks.replica_guard import (
    _WORDS_AT_ONCE,
    _difference,
    _holders,
    _make_checksums,
)


@pytest.mark.parametrize(
    ("sums", "ranks", "text"),
    [
        ([1, 5, 1], [0, 1, 2], "checksum 0x00000001 on ranks 0, 2; 0x00000005 on rank 1"),
        ([-1, 0], [2, 3], "checksum 0xffffffff on rank 2; 0x00000000 on rank 3"),
    ],
)
def test_ranks_are_named_by_what_they_hold(sums, ranks, text):
    assert _holders(np.array(sums, np.int32), ranks) == text


def test_the_first_variable_that_differs_is_named():
    variables = [keras.Variable(0.0, name=name) for name in ("a", "b", "c")]
    assert _difference(np.ones((2, 3), np.int32), [0, 1], variables) is None
    error = _difference(np.array([[1, 2, 3], [1, 4, 5]]), [0, 1], variables)
    assert "differs is b." in str(error)
    assert "2 of 3 variables differ" in str(error)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint32", "bool"]
)
def test_checksums_see_the_last_bit(dtype):
    values = np.arange(6).reshape(2, 3).astype(tf.as_dtype(dtype).as_numpy_dtype)
    variables = [tf.Variable(values), tf.Variable(values)]
    checksums = _make_checksums()
    before = checksums(variables).numpy()
    assert before[0] == before[1]
    changed = values.copy()
    raw = changed.reshape(-1).view(np.uint8)
    raw[0] ^= 1
    variables[1].assign(changed)
    after = checksums(variables).numpy()
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[::-1],
        lambda v: np.roll(v, 1),
        lambda v: -v,
        lambda v: np.concatenate([-v[:2], v[2:]]),
        lambda v: np.concatenate([v[1:2], v[:1], v[2:]]),
    ],
)
@pytest.mark.parametrize("size", [6, _WORDS_AT_ONCE + 5])
def test_checksums_see_what_has_the_same_sum(change, size):
    values = np.random.default_rng(0).normal(size=size).astype("float32")
    first, second = _make_checksums()([tf.Variable(values), tf.Variable(change(values))]).numpy()
    assert first != second


def test_checksums_in_parts_are_those_of_the_whole(monkeypatch):
    variables = [tf.Variable(np.random.default_rng(0).normal(size=(7, 3)).astype("float32"))]
    whole = _make_checksums()(variables).numpy()
    monkeypatch.setattr("sharedlayers_dist.dist.callbacks.replica_guard._WORDS_AT_ONCE", 4)
    assert _make_checksums()(variables).numpy() == whole
