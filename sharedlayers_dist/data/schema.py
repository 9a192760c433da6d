"""What a pair dataset's Parquet files look like: columns, kinds and the metadata in their schema.

A pair dataset is a folder of Parquet files with the columns `a`, `b` and `label` (0 or 1), and
optionally `group_a`, `group_b` (whose item it is) and `weight`. Text is `string`; images and other
tensors are Arrow's `fixed_shape_tensor`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pyarrow as pa
from numpy.typing import NDArray

from sharedlayers_dist.errors import UserError

SET_NAMES = ("train", "validation", "test")
"""Folders of the sets that are made together."""
METADATA_KEY = b"sharedlayers"
TEXT_LENGTH = 280
"""Rows of a tweet's binary matrix: characters that are read of each text."""
ALPHABET_SIZE = 256
"""Columns of a tweet's binary matrix: the most frequent characters of the training set."""

Kind = Literal["text", "image"]


@dataclass(frozen=True, kw_only=True)
class PairMetadata:
    """What a pair dataset's files say about themselves beside their columns."""

    kind: Kind
    alphabet: str | None = None
    """Text only: up to 256 characters, the most frequent of the training set first."""
    made_by: dict[str, Any] = field(default_factory=dict)
    """How the dataset was made: command, options, seed, counts."""
    run_length: int = 1
    """Rows that stay together when the dataset is shuffled: consecutive ones share items."""

    def __post_init__(self) -> None:
        """Checks what may have been written by others."""
        alphabet = self.alphabet
        if alphabet is not None and not (
            isinstance(alphabet, str) and len(set(alphabet)) == len(alphabet) <= ALPHABET_SIZE
        ):
            raise UserError(
                f"`alphabet` must be up to {ALPHABET_SIZE} different characters. "
                f"Received: alphabet={alphabet!r}."
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


def kind_of(item: pa.DataType) -> Kind | None:
    """The kind of items of Arrow type `item`; None for a type that no model reads."""
    if is_text(item):
        return "text"
    if isinstance(item, pa.FixedShapeTensorType):
        return "image"
    return None


def is_text(item: pa.DataType) -> bool:
    """Whether values of type `item` are texts, in any of Arrow's layouts of them."""
    if pa.types.is_dictionary(item):  # What pandas makes of its categories.
        item = item.value_type
    return (
        pa.types.is_string(item) or pa.types.is_large_string(item) or pa.types.is_string_view(item)
    )


def shape_of(item: pa.DataType) -> tuple[int, ...]:
    """Shape of one item of type `item` as a reader gives it; `()` for text."""
    if not isinstance(item, pa.FixedShapeTensorType):
        return ()
    permutation = item.permutation or range(len(item.shape))
    return tuple(item.shape[axis] for axis in permutation)


def to_numpy(images: pa.FixedShapeTensorArray) -> NDArray:
    """Images without nulls as an array, shape `(len(images), *shape_of(images.type))`.

    Arrow's own conversion (26.0) gives other values where the type has a permutation.
    """
    item = images.type
    stored = images.storage.flatten().to_numpy(zero_copy_only=False)
    stored = stored.reshape(len(images), *item.shape)
    axes = item.permutation or range(len(item.shape))
    return stored.transpose(0, *(1 + axis for axis in axes))


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
