"""What a reader has met so far: the waiting for it, what it left out, and what it failed with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class ReaderStats:
    """What one reader has met on its rank, counted on over all its iterators.

    Example:
        >>> stats = ReaderStats(num_bad_rows=2)
        >>> stats.problem_of_group |= {7: "row group 7, row 1: ...", 3: "row group 3, row 0: ..."}
        >>> stats.problems
        ['row group 3, row 0: ...', 'row group 7, row 1: ...']
    """

    wait_seconds: float = 0.0
    """Seconds that the consumer of the batches has waited for them."""
    num_truncated: int = 0
    """Items that were truncated: texts and lists of tokens that are longer than a model takes."""
    num_bad_rows: int = 0
    """Bad rows left out."""
    problem_of_group: dict[int, str] = field(default_factory=dict)
    """Of each row group with bad rows, by its number: where the first lies and what is wrong."""
    cache: Counter[str] = field(default_factory=Counter)
    """Row groups by what the cache had of them, as `FileCache.counts` has it; empty without one."""
    error: Exception | None = None
    """What reading failed with; TensorFlow reports its text alone."""

    @property
    def problems(self) -> list[str]:
        """The first bad row of each row group that has some, in the order of the row groups."""
        return [self.problem_of_group[group] for group in sorted(self.problem_of_group)]

    def add_wait(self, seconds: float) -> None:
        """Counts time that the consumer has waited."""
        self.wait_seconds += seconds

    @contextmanager
    def keeping_error(self) -> Iterator[None]:
        """Keeps what the body fails with, and raises it."""
        try:
            yield
        except Exception as e:
            self.error = e
            raise
