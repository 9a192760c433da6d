"""Refusing options of encoders that are out of their range."""

from __future__ import annotations

from sharedlayers_dist.errors import UserError


def require_sizes(**sizes: int) -> None:
    """Refuses sizes below 1.

    Raises:
        UserError: that names the size.

    Example:
        >>> require_sizes(filters=128)
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"`{name}` must be at least 1. Received: {name}={size}.")
