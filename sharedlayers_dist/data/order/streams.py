"""Streams: the parts that a dataset is read in, and which rank reads which."""

from __future__ import annotations

import numpy as np

from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.errors import UserError


def streams_of_rank(num_streams: int, *, rank: int, size: int) -> range:
    """The streams that `rank` of `size` reads: every `size`-th.

    Raises:
        UserError: where some rank would have no stream.
    """
    if size > num_streams:
        raise UserError(
            "There cannot be more ranks than streams. "
            f"Received: ranks={size}, num_streams={num_streams}. "
            f"Start at most {num_streams} ranks, or begin a new run with more streams (another "
            "number of streams is another order of the samples)."
        )
    return range(rank, num_streams, size)


def streams_along_line(num_streams: int, *, spread: bool) -> Rows:
    """The streams in the order of their segments on the line, shape `(num_streams,)`.

    Spread streams are ordered by their reversed bits (van der Corput). The streams of one of 2^m
    ranks then read neighbouring segments, which leaves the fewest row groups cut between ranks.
    """
    width = max(1, (num_streams - 1).bit_length())
    streams = range(num_streams)
    if spread:
        return np.array(sorted(streams, key=lambda j: f"{j:0{width}b}"[::-1]), dtype=np.int64)
    return np.array(streams, dtype=np.int64)
