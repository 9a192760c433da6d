"""Exchanging plain values between the ranks, outside of any graph.

Every function must be called by all ranks, in the same order. With one rank each returns at once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collective_timing import count_outside
from sharedlayers_dist.errors import CollectiveRuntimeError, CollectiveUserError, UserError

_T = TypeVar("_T")
_CHUNK_BYTES = 64 * 2**20
"""Largest buffer that is broadcast at once; it bounds the extra memory."""


def broadcast_object(value: _T, *, root: int = 0) -> _T:
    """Returns rank `root`'s `value`, pickled, on every rank; Horovod's own ends at 2 GiB."""
    if runtime.size() == 1:
        return value
    is_root = runtime.rank() == root
    pickled = np.frombuffer(pickle.dumps(value) if is_root else b"", np.uint8)
    (num_bytes,) = broadcast_arrays([np.array(pickled.size)], root=root)
    (received,) = broadcast_arrays(
        [pickled if is_root else np.empty(num_bytes, np.uint8)], root=root
    )
    return value if is_root else pickle.loads(received.data)


def allgather_object(value: _T) -> list[_T]:
    """Returns every rank's `value`, pickled, in the order of ranks."""
    if runtime.size() == 1:
        return [value]
    with count_outside():
        return runtime.horovod_module().allgather_object(value, name="sharedlayers_dist.allgather")


def allreduce_sum(arrays: Sequence[Any]) -> list[np.ndarray]:
    """Returns the sum over ranks of each of `arrays`, whose shapes must be the same everywhere.

    Floating point is added in float64, integers and booleans in int64; so are the results.
    """
    sums = [np.asarray(array) for array in arrays]
    sums = [a.astype(np.float64 if a.dtype.kind == "f" else np.int64) for a in sums]
    if runtime.size() == 1:
        return sums
    horovod = runtime.horovod_module()
    for dtype in (np.float64, np.int64):
        chosen = [i for i, a in enumerate(sums) if a.dtype == dtype]
        if not chosen:
            continue
        packed = np.concatenate([sums[i].ravel() for i in chosen])
        name = f"sharedlayers_dist.sum.{np.dtype(dtype)}"
        with count_outside():
            total = horovod.allreduce(tf.constant(packed), op=horovod.Sum, name=name).numpy()
        ends = np.cumsum([sums[i].size for i in chosen])[:-1]
        for i, part in zip(chosen, np.split(total, ends), strict=True):
            sums[i] = part.reshape(sums[i].shape)
    return sums


def broadcast_arrays(arrays: Sequence[np.ndarray], *, root: int = 0) -> list[np.ndarray]:
    """Returns rank `root`'s arrays, bit by bit; shapes and dtypes must be the same everywhere."""
    if runtime.size() == 1:
        return list(arrays)
    horovod = runtime.horovod_module()
    packed = [np.frombuffer(np.ascontiguousarray(a).tobytes(), np.uint8) for a in arrays]
    sent = np.concatenate(packed) if packed else np.empty(0, np.uint8)
    with count_outside():
        chunks = [
            horovod.broadcast(
                tf.constant(sent[start : start + _CHUNK_BYTES]),
                root,
                name="sharedlayers_dist.bytes",
            ).numpy()
            for start in range(0, sent.size, _CHUNK_BYTES)
        ]
    received = np.concatenate(chunks) if chunks else sent
    ends = np.cumsum([p.size for p in packed])[:-1]
    return (
        [
            np.frombuffer(part.tobytes(), a.dtype).reshape(a.shape)
            for part, a in zip(np.split(received, ends), arrays, strict=True)
        ]
        if packed
        else []
    )


def allgather_array(array: np.ndarray) -> np.ndarray:
    """Returns every rank's `array`, `(ranks, *shape)`; shape and dtype must be the same everywhere.

    The dtype must be one that Horovod gathers: integers of 32 or 64 bits, or floating point.
    """
    if runtime.size() == 1:
        return array[None]
    with count_outside():
        gathered = runtime.horovod_module().allgather(
            tf.constant(array[None]), name=f"sharedlayers_dist.gather.{array.dtype}"
        )
        return gathered.numpy()


def barrier() -> None:
    """Returns once every rank has come here."""
    allreduce_sum([np.zeros((), np.int64)])


def raise_on_all_ranks(error: BaseException | None) -> None:
    """Raises on every rank if any rank has an `error`; otherwise returns.

    The error of the lowest rank that has one is raised, and names that rank.

    Raises:
        CollectiveUserError: if that error is a UserError: it says what a user gave.
        CollectiveRuntimeError: if it is of any other type.
    """
    if runtime.size() == 1:
        if error is not None:
            raise error
        return
    own = None
    if error is not None:
        kind = "" if isinstance(error, UserError | RuntimeError) else f"{type(error).__name__}: "
        own = (isinstance(error, UserError), f"{kind}{error}")
    for rank, one in enumerate(allgather_object(own)):
        if one is not None:
            is_users, text = one
            raised = CollectiveUserError if is_users else CollectiveRuntimeError
            raise raised(f"Rank {rank}: {text}") from error


def call_on_rank_zero(function: Callable[[], _T]) -> _T:
    """Calls `function` on rank zero alone; its result, or its error, reaches every rank.

    Raises:
        CollectiveUserError: on every rank, if it raised a UserError.
        CollectiveRuntimeError: on every rank, if it raised anything else.

    Example:
        >>> call_on_rank_zero(lambda: 3)
        3
    """
    found: list[_T] = []
    error: BaseException | None = None
    if runtime.rank() == 0:
        try:
            found.append(function())
        except Exception as e:  # Any failure must reach the ranks that wait below.
            error = e
    raise_on_all_ranks(error)
    return broadcast_object(found)[0]


class Collectives(Protocol):
    """The exchanges that code which all ranks run needs; passed in, so that tests need no ranks.

    Every method must be called by all ranks, in the same order.
    """

    def sum(self, numbers: Sequence[int]) -> list[int]:
        """Returns the sum over ranks of each number; booleans count as 0 and 1."""
        ...

    def broadcast(self, value: _T) -> _T:
        """Returns rank zero's `value` on every rank."""
        ...

    def raise_on_all_ranks(self, error: BaseException | None) -> None:
        """Raises on every rank if any rank has an `error`; otherwise returns."""
        ...


class HorovodCollectives:
    """The collectives over the ranks that `init` has joined, which may be this one alone.

    Example:
        >>> HorovodCollectives().sum([True, 3])
        [1, 3]
    """

    def sum(self, numbers: Sequence[int]) -> list[int]:
        """See `Collectives`."""
        return [int(n) for n in allreduce_sum([np.array(numbers, np.int64)])[0]]

    def broadcast(self, value: _T) -> _T:
        """See `broadcast_object`."""
        return broadcast_object(value)

    def raise_on_all_ranks(self, error: BaseException | None) -> None:
        """See the function `raise_on_all_ranks`."""
        raise_on_all_ranks(error)
