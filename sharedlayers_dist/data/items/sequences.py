"""Sequences of any length as rows of one length: truncated, or padded with zeros."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

End = Literal["begin", "end"]
"""An end of a sequence. Keras's `pad_sequences` calls the beginning `pre`, and the end `post`."""


def fill_rows(
    rows: NDArray,
    values: NDArray,
    lengths: NDArray[np.int64],
    *,
    truncate: End = "begin",
    pad: End = "begin",
) -> int:
    """Writes sequences into rows of zeros, as `keras.utils.pad_sequences` does.

    Args:
        rows: What is written to, shape `(sequences, length)`.
        values: The values of all sequences, end to end.
        lengths: How many of them are each sequence's, shape `(sequences,)`.
        truncate: The end that sequences lose which are longer than a row.
        pad: The end at which shorter ones keep the row's zeros.

    Returns:
        How many were truncated.

    Example:
        >>> rows = np.zeros((2, 3), int)
        >>> fill_rows(rows, np.arange(1, 6), np.array([4, 1]))
        1
        >>> rows.tolist()
        [[2, 3, 4], [0, 0, 5]]
    """
    length = rows.shape[1]
    too_long = np.flatnonzero(lengths > length)
    if too_long.size:
        stops = np.cumsum(lengths)[too_long]
        starts = stops - lengths[too_long]
        lost = (starts, stops - length) if truncate == "begin" else (starts + length, stops)
        is_kept = np.ones(values.size, np.bool_)
        for start, stop in zip(*lost, strict=True):
            is_kept[start:stop] = False
        values = values[is_kept]
    # Narrow numbers, since this compares each cell.
    number_type = np.min_scalar_type(length)
    places = np.arange(length, dtype=number_type)
    num_kept = np.minimum(lengths, length)[:, None]
    if pad == "begin":
        rows[places >= (length - num_kept).astype(number_type)] = values
    else:
        rows[places < num_kept.astype(number_type)] = values
    return too_long.size


def lists_of_values(lists: pa.Array) -> NDArray[np.int64]:
    """Which list each of `lists.flatten()` is of, shape `(values,)`.

    Arrow's own answer (26.0) counts what lies beneath a null as well, and `flatten` does not.

    Args:
        lists: Any array of lists.

    Example:
        >>> lists_of_values(pa.array([[7, 8], None, [9]])).tolist()
        [0, 0, 2]
    """
    lengths = lists.value_lengths().fill_null(0).to_numpy()
    return np.repeat(np.arange(len(lists)), lengths)


def describe_kept(length: int, unit: str, truncate: End) -> str:
    """What is kept of a sequence that is truncated, for people."""
    return f"{'last' if truncate == 'begin' else 'first'} {length} {unit}"
