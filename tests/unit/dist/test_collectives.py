"""The collectives of one process: values come back as they are, in the same types as of several."""

from __future__ import annotations

import numpy as np
import pytest

from sharedlayers_dist import dist


def test_an_error_is_raised_as_it_is():
    error = OSError("disk full")
    with pytest.raises(OSError, match="disk full") as raised:
        dist.raise_on_all_ranks(error)
    assert raised.value is error


def test_allreduce_sum_adds_in_double_precision():
    sums = dist.allreduce_sum([np.float32(1), np.ones((2, 0), bool), [True, False]])
    assert [s.dtype for s in sums] == [np.float64, np.int64, np.int64]
    assert [s.shape for s in sums] == [(), (2, 0), (2,)]
