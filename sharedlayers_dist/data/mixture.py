"""Several datasets read as one, each with its share of every epoch.

An epoch of a mixture has a fixed number of rows, of which each dataset gives its share. Each
dataset goes round in passes of its own, whose row groups are permuted anew, and an epoch takes up
each where the epoch before left it: no row of a dataset comes a second time before all of its
others have come once. What an epoch takes is then shuffled and read as one dataset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.index import DatasetIndex, RowPlace, index_dataset
from sharedlayers_dist.data.items.column import ItemColumn, describe_kinds
from sharedlayers_dist.data.schema import PairMetadata
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets


@dataclass(frozen=True, kw_only=True)
class DatasetMixture:
    """Datasets and their weights; a `PairReader` takes it in the place of one `DatasetIndex`."""

    parts: tuple[DatasetIndex, ...]
    weights: tuple[float, ...]
    """Share of each dataset in an epoch; their sum does not matter."""
    num_rows: int
    """Pairs of an epoch."""

    def __post_init__(self) -> None:
        """Checks that the parts can be read as one dataset."""
        if len(self.parts) != len(self.weights) or not self.parts:
            raise UserError(
                "A mixture needs a weight for each of its datasets. Received: "
                f"{len(self.parts)} datasets, weights={self.weights}."
            )
        if not all(np.isfinite(weight) and weight > 0 for weight in self.weights):
            raise UserError(f"Weights must be positive. Received: weights={self.weights}.")
        if self.num_rows < 1:
            raise UserError(f"An epoch needs a pair. Received: num_rows={self.num_rows}.")
        _require_different(self.parts)
        first = self.parts[0]
        for part in self.parts[1:]:
            for side in "ab":
                different = getattr(part, side).find_difference(getattr(first, side))
                if different:
                    fact, theirs, ours = different
                    raise UserError(
                        "All datasets of a mixture must have the same items. Received: "
                        f"{fact}={theirs!r} in column {side!r} of {hide_secrets(part.uri)}, "
                        f"{fact}={ours!r} in column {side!r} of {hide_secrets(first.uri)}."
                    )

    @property
    def uri(self) -> str:
        """The datasets' URIs, for people."""
        return ", ".join(part.uri for part in self.parts)

    @property
    def a(self) -> ItemColumn:
        """The items of the one side."""
        return self.parts[0].a

    @property
    def b(self) -> ItemColumn:
        """The items of the other side."""
        return self.parts[0].b

    @property
    def kind(self) -> str:
        """What the pairs are of, in a word or two."""
        return describe_kinds(self)

    @property
    def metadata(self) -> PairMetadata | None:
        """The first dataset's metadata: its alphabet is the mixture's."""
        return self.parts[0].metadata

    @cached_property
    def row_counts(self) -> NDArray[np.int64]:
        """Rows of each row group of all datasets, one dataset after another."""
        return np.concatenate([part.row_counts for part in self.parts])

    @cached_property
    def row_starts(self) -> NDArray[np.int64]:
        """Rows before each row group, and in all, one dataset after another."""
        return np.concatenate([[0], np.cumsum(self.row_counts)])

    @cached_property
    def group_starts(self) -> NDArray[np.int64]:
        """Row groups before each dataset, and in all, shape `(datasets + 1,)`."""
        return np.concatenate([[0], np.cumsum([part.row_counts.size for part in self.parts])])

    def part_of_group(self, row_group: int) -> tuple[int, int]:
        """The dataset that holds a row group of the mixture, and the row group's index in it."""
        part = int(np.searchsorted(self.group_starts, row_group, side="right")) - 1
        return part, row_group - int(self.group_starts[part])

    def place_of_group(self, row_group: int) -> str:
        """Where row group `row_group` of the mixture lies, for people."""
        part, group_of_part = self.part_of_group(row_group)
        return self.parts[part].place_of_group(group_of_part)

    def place_of_row(self, row: int) -> RowPlace:
        """Where row `row` of the mixture lies, counted over all its datasets."""
        group = int(np.searchsorted(self.row_starts, row, side="right")) - 1
        part, _ = self.part_of_group(group)
        return self.parts[part].place_of_row(row - int(self.row_starts[self.group_starts[part]]))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the datasets' fingerprints, the weights and the rows of an epoch."""
        facts = ([part.fingerprint for part in self.parts], self.weights, self.num_rows)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _require_different(parts: Sequence[DatasetIndex]) -> None:
    """Raises UserError if a file is in two datasets, however their URIs are spelled."""
    part_of_file: dict[str, DatasetIndex] = {}
    for part in parts:
        for file in part.files:
            other = part_of_file.setdefault(file.path, part)
            if other is not part:
                raise UserError(
                    "A mixture takes each dataset once. Received: "
                    f"{hide_secrets(part.uri)} and {hide_secrets(other.uri)}, which both hold "
                    f"{file.path}. Give one of them, with the weight of both."
                )


def index_mixture(
    weights: Mapping[str, float] | Sequence[tuple[str, float]], num_rows: int | None = None
) -> DatasetMixture:
    """Reads the footers of several datasets to be read as one.

    Args:
        weights: The datasets' URIs, and the share of each in an epoch.
        num_rows: Pairs of an epoch; by default as many as all the datasets have.

    Raises:
        UserError: for a dataset that cannot be used, datasets whose items differ, or a weight
            that is not positive.
    """
    items = tuple(weights.items() if isinstance(weights, Mapping) else weights)
    parts = tuple(index_dataset(uri) for uri, _ in items)
    return DatasetMixture(
        parts=parts,
        weights=tuple(share for _, share in items),
        num_rows=sum(part.num_rows for part in parts) if num_rows is None else num_rows,
    )
