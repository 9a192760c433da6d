"""What shard actors can be asked for: pairs by the steps of a plan, or items by their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar


class Chunk(NamedTuple):
    """What an actor has read for one request."""

    result: Any
    """What was asked for; or the `Exception` that reading failed with."""
    num_truncated: int
    """Truncated items among those encoded since the part's last answer."""
    problem_of_group: dict[int, str]
    """The first bad row of each row group that this actor has met in the part so far."""
    node: str
    """Address of the actor's node."""
    cache: Mapping[str, int] = {}
    """Row groups by what the cache had of them since the part's last answer; see `ReaderStats`."""


class Request(Protocol):
    """What is asked for. It says all there is to know, so any actor can serve it any time."""

    @property
    def key(self) -> str:
        """Names what is read: equal keys, equal data and order."""

    @property
    def part(self) -> int:
        """Which part is asked for."""

    @property
    def num_parts(self) -> int:
        """Parts of the whole."""

    @property
    def is_repeated(self) -> bool:
        """Whether an actor's process ended before it could answer."""

    def repeated(self) -> Self:
        """The same request, made once more."""


R = TypeVar("R", bound=Request, contravariant=True)


class OpenPart(Protocol[R]):
    """A part that an actor keeps open."""

    last_used: float
    """When it was asked for something, by the monotonic clock."""

    def read(self, request: R, node: str) -> Chunk:
        """Reads what is asked for; never raises, but says what reading failed with."""

    def close(self) -> None:
        """Lets go of what the part holds."""


class Work(Protocol[R]):
    """Data that actors read in parts. Plain values: it is pickled and sent to them."""

    @property
    def key(self) -> str:
        """Names what is read, for the requests."""

    def open(self, part: int, num_parts: int) -> OpenPart[R]:
        """Opens one part, on an actor."""

    def row_groups_of(self, request: R) -> Sequence[int]:
        """The row groups that serving a request reads."""

    def place_of_group(self, group: int) -> str:
        """Where a row group lies, for people."""

    def rows_of_group(self, group: int) -> int:
        """Rows of a row group."""

    def try_row_group(self, group: int) -> None:
        """Reads one row group and nothing else."""
