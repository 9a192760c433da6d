"""What the order of the samples depends on, beside the dataset and the epoch."""

from __future__ import annotations

from dataclasses import dataclass

from sharedlayers_dist.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OrderOptions:
    """Options of the order; the number of ranks is none of them.

    Raises:
        UserError: for a number out of its range.

    Example:
        >>> OrderOptions(seed=0, batch_size=256, num_streams=24).shuffle
        True
    """

    seed: int
    batch_size: int
    """Pairs of a global batch, over all ranks."""
    num_streams: int
    """Parts that the dataset is read in; the most ranks that can share it."""
    window: int | None = None
    """Row groups of a stream that are shuffled together; None for `default_window`."""
    run_length: int | None = None
    """Consecutive rows of a row group that stay together in the shuffling; None for what the
    dataset says, 1 to shuffle single rows."""
    shuffle: bool = True
    """False keeps the dataset's own order within each stream, and with one stream altogether."""

    def __post_init__(self) -> None:
        """Checks the ranges."""
        for name, least in (
            ("seed", 0),
            ("batch_size", 1),
            ("num_streams", 1),
            ("window", 1),
            ("run_length", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"`{name}` must be at least {least}. Received: {name}={value}.")
