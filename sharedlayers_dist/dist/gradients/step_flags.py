"""`StepFlags`: a few numbers of each rank that travel with the gradients of a training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.errors import UserError

_travelling: ContextVar[StepFlags | None] = ContextVar("travelling", default=None)


class StepFlags:
    """Numbers that each rank sets before a training step, and whose sums all ranks know after it.

    They are part of the grouped reduction that the step makes of its gradients anyway, so they
    cost no round trip of their own, as `Collectives.sum` after each step would. `prepare(model,
    flags=...)` lets them travel with every step of `model.fit`; a training loop of one's own
    applies its gradients within `travelling()`.

    A step that reduces no gradients tells nothing: passes that `backward_passes_per_step`
    accumulates, steps of a model with nothing to train. So does a step of evaluation. All ranks
    see the same of it, and none waits.

    With a `process_set`, the sums are over the ranks that reduce together; a rank outside of it is
    told its own numbers. With one rank they are what was set, at once.

    Args:
        count: How many numbers; the same on all ranks.

    Raises:
        UserError: if `count` is less than 1.

    Example:
        >>> flags = StepFlags(2)
        >>> flags.set([True, 3])
        >>> flags.sums()  # After a step; this is one process.
        [1, 3]
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UserError(f"`count` must be at least 1. Received: count={count}.")
        self._own = [0] * count
        self._is_alone = runtime.size() == 1
        if self._is_alone:
            return
        # On the CPU: what the host sets and reads must not wait for a GPU.
        with tf.init_scope(), tf.device("CPU:0"):
            self._numbers = tf.Variable(tf.zeros(count, tf.float64), trainable=False)
            self._told = tf.Variable(tf.zeros(1 + count, tf.float64), trainable=False)
            """The number of reductions that told something, and the sums that the last one told."""
        self._times_told = 0

    def set(self, numbers: Sequence[int]) -> None:
        """Sets this rank's numbers; they stay until they are set again.

        Args:
            numbers: Whole ones, whose sums over ranks are less than a million; booleans count as 0
                and 1.

        Raises:
            UserError: if there are more or less of them than `count`.
        """
        if len(numbers) != len(self._own):
            raise UserError(
                f"`numbers` must be as many as were announced. Received: {len(numbers)} numbers, "
                f"count={len(self._own)}."
            )
        before, self._own = self._own, [int(n) for n in numbers]
        if not self._is_alone and self._own != before:
            self._numbers.assign(self._own)

    def sums(self) -> list[int] | None:
        """Returns the sum over ranks of each number as they were set before the step.

        None if no step has reduced gradients since the last call.
        """
        if self._is_alone:
            return list(self._own)
        times_told, *sums = self._told.numpy().tolist()
        if times_told == self._times_told:
            return None
        self._times_told = times_told
        return [int(s) for s in sums]

    @contextmanager
    def travelling(self) -> Iterator[None]:
        """Lets the numbers travel with the gradients that are applied within."""
        token = _travelling.set(self)
        try:
            yield
        finally:
            _travelling.reset(token)

    @property
    def own(self) -> tf.Tensor:
        """This rank's numbers, `(count,)` float64, as the graph finds them when it runs."""
        return self._numbers.read_value()

    def tell(self, sums: tf.Tensor) -> None:
        """Keeps the sums `(count,)` that a reduction came to; part of the graph."""
        with tf.device("CPU:0"):
            rounded = tf.round(tf.cast(sums, tf.float64))  # An average was divided.
            self._told.assign(tf.concat([self._told[:1] + 1, rounded], axis=0))


def current_flags() -> StepFlags | None:
    """Returns the numbers that travel with the gradients being applied; None for none."""
    return _travelling.get()
