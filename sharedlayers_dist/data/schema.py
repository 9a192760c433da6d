"""What a pair dataset's Parquet files look like: columns, and the metadata in their schema.

A pair dataset is a folder of Parquet files with the columns `a`, `b` and `label` (0 or 1), and
optionally `group_a`, `group_b` (whose item it is) and `weight`. What `a` and `b` may hold is what
`items.column` knows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from sharedlayers_dist.data.items.column import Kind
from sharedlayers_dist.errors import UserError

SET_NAMES = ("train", "validation", "test")
"""Folders of the sets that are made together."""
METADATA_KEY = b"sharedlayers"


@dataclass(frozen=True, kw_only=True)
class PairMetadata:
    """What a pair dataset's files say about themselves beside their columns."""

    kind: Kind
    """What `a` holds."""
    alphabet: str | None = None
    """Text only: characters of the training set, the most frequent first; all that there are, or
    256 or more of them."""
    made_by: dict[str, Any] = field(default_factory=dict)
    """How the dataset was made: command, options, seed, counts."""
    run_length: int = 1
    """Rows that stay together when the dataset is shuffled: consecutive ones share items."""

    def __post_init__(self) -> None:
        """Checks what may have been written by others."""
        alphabet = self.alphabet
        if alphabet is not None and not (
            isinstance(alphabet, str) and len(set(alphabet)) == len(alphabet)
        ):
            raise UserError(
                f"`alphabet` must be different characters. Received: alphabet={alphabet!r}."
            )
        if not isinstance(self.made_by, dict):
            raise UserError(f"`made_by` must be an object. Received: made_by={self.made_by!r}.")
        if not isinstance(self.run_length, int) or self.run_length < 1:
            raise UserError(
                f"`run_length` must be a whole number, at least 1. "
                f"Received: run_length={self.run_length!r}."
            )


def pair_schema(item: pa.DataType, metadata: PairMetadata) -> pa.Schema:
    """The Arrow schema of a pair dataset whose items have the type `item`."""
    return pa.schema(
        [
            pa.field("a", item, nullable=False),
            pa.field("b", item, nullable=False),
            pa.field("label", pa.int8(), nullable=False),
            pa.field("group_a", pa.string()),
            pa.field("group_b", pa.string()),
        ],
        metadata={METADATA_KEY: json.dumps(asdict(metadata), ensure_ascii=False).encode()},
    )


def read_metadata(schema: pa.Schema) -> PairMetadata | None:
    """The metadata in a file's schema; None where another program wrote the file.

    Raises:
        UserError: where it is there, but is not this package's.
    """
    stored = (schema.metadata or {}).get(METADATA_KEY)
    if stored is None:
        return None
    try:
        return PairMetadata(**json.loads(stored))
    except (TypeError, ValueError) as e:
        raise UserError(f"its metadata under {METADATA_KEY.decode()!r} cannot be read: {e}") from e
