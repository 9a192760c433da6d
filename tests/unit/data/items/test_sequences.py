"""Rows of one length are those of Keras's `pad_sequences`."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharedlayers_dist.data.items.sequences import fill_rows

IN_KERAS = {"begin": "pre", "end": "post"}


@pytest.mark.parametrize("truncate", ["begin", "end"])
@pytest.mark.parametrize("pad", ["begin", "end"])
@given(st.lists(st.lists(st.integers(1, 9), max_size=8), max_size=6), st.integers(1, 6))
def test_rows_are_those_of_keras(truncate, pad, sequences, length):
    values = np.array([value for sequence in sequences for value in sequence], int)
    lengths = np.array([len(sequence) for sequence in sequences], int)
    rows = np.zeros((len(sequences), length), int)
    num_truncated = fill_rows(rows, values, lengths, truncate=truncate, pad=pad)
    expected = keras.utils.pad_sequences(
        sequences, maxlen=length, padding=IN_KERAS[pad], truncating=IN_KERAS[truncate]
    )
    assert rows.tolist() == expected.tolist()
    assert num_truncated == sum(lengths > length)


@pytest.mark.parametrize("pad", ["begin", "end"])
def test_rows_may_be_longer_than_a_byte_counts(pad):
    rows = np.zeros((2, 300), int)
    fill_rows(rows, np.arange(1, 300), np.array([299, 0]), pad=pad)
    filled = rows[0, 1:] if pad == "begin" else rows[0, :-1]
    assert filled.tolist() == list(range(1, 300))
    assert not rows[1].any()
