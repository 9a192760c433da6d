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

from sharedlayers_dist.data.index import DatasetIndex, index_dataset
from sharedlayers_dist.data.order.epoch_plan import (
    EpochPlan,
    Pieces,
    default_window,
    plan_pieces,
)
from sharedlayers_dist.data.order.permutation import Purpose, Rows, permutation
from sharedlayers_dist.data.schema import Kind, PairMetadata
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets


def share_rows(num_rows: int, weights: tuple[float, ...]) -> list[int]:
    """Rows of an epoch that each dataset gives, in proportion to `weights`, `num_rows` in all.

    What is left after rounding down goes to the largest remainders, the first of equal ones.
    """
    exact = [num_rows * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for part in by_remainder[: num_rows - sum(shares)]:
        shares[part] += 1
    return shares


def take_pieces(
    row_counts: Rows,
    num_rows: int,
    *,
    seed: int,
    epoch: int,
    part: int,
    run_length: int = 1,
    shuffle: bool = True,
) -> Pieces:
    """The row groups, the outer two perhaps in part, that one dataset gives to one epoch.

    Its passes laid end to end, this is the stretch `[epoch * num_rows, (epoch + 1) * num_rows)`.

    Args:
        row_counts: Rows of the dataset's row groups, shape `(row groups,)`.
        num_rows: Rows that the dataset gives to each epoch.
        seed: Seed of the order.
        epoch: Index of the epoch.
        part: Index of the dataset in its mixture.
        run_length: Consecutive rows of a row group that stay together in the shuffling.
        shuffle: False goes through the dataset in its own order in each pass.
    """
    total = int(row_counts.sum())
    group_starts = np.cumsum(row_counts) - row_counts
    begin, end = epoch * num_rows, (epoch + 1) * num_rows
    starts, counts = [], []
    for number in range(begin // total, -(-end // total)):
        order = np.arange(row_counts.size)
        if shuffle:
            order = permutation(order.size, seed=seed, purpose=Purpose.PASS, key=(number, part, 0))
        before = number * total + np.cumsum(row_counts[order]) - row_counts[order]
        first = np.clip(begin - before, 0, row_counts[order])
        last = np.clip(end - before, 0, row_counts[order])
        starts.append((group_starts[order] + first)[last > first])
        counts.append((last - first)[last > first])
    empty = np.empty(0, np.int64)
    all_counts = np.concatenate([empty, *counts])
    return Pieces(
        np.concatenate([empty, *starts]), all_counts, np.full(all_counts.size, run_length)
    )


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
            for fact in ("kind", "item_shape", "item_dtype"):
                ours, theirs = getattr(first, fact), getattr(part, fact)
                if ours != theirs:
                    raise UserError(
                        "All datasets of a mixture must have the same items. Received: "
                        f"{fact}={theirs!r} in {hide_secrets(part.uri)}, "
                        f"{fact}={ours!r} in {hide_secrets(first.uri)}."
                    )

    @property
    def uri(self) -> str:
        """The datasets' URIs, for people."""
        return ", ".join(part.uri for part in self.parts)

    @property
    def kind(self) -> Kind:
        """Text or image."""
        return self.parts[0].kind

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item; `()` for text."""
        return self.parts[0].item_shape

    @property
    def item_dtype(self) -> str:
        """NumPy's name of an image's numbers; `str` for text."""
        return self.parts[0].item_dtype

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
    def fingerprint(self) -> str:
        """Hash of the datasets' fingerprints, the weights and the rows of an epoch."""
        facts = ([part.fingerprint for part in self.parts], self.weights, self.num_rows)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def plan_epoch(
        self,
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        num_streams: int,
        window: int | None = None,
        run_length: int | None = None,
        shuffle: bool = True,
    ) -> EpochPlan:
        """Plans one epoch; `run_length` is each dataset's own if None. See `plan.plan_epoch`."""
        taken = []
        first_row = 0
        shares = share_rows(self.num_rows, self.weights)
        for number, (part, share) in enumerate(zip(self.parts, shares, strict=True)):
            pieces = take_pieces(
                part.row_counts,
                share,
                seed=seed,
                epoch=epoch,
                part=number,
                run_length=part.run_length if run_length is None else run_length,
                shuffle=shuffle,
            )
            taken.append(pieces._replace(starts=pieces.starts + first_row))
            first_row += part.num_rows
        pieces = Pieces(*(np.concatenate(arrays) for arrays in zip(*taken, strict=True)))
        return plan_pieces(
            pieces,
            seed=seed,
            epoch=epoch,
            batch_size=batch_size,
            num_streams=num_streams,
            window=default_window(pieces.counts) if window is None else window,
            shuffle=shuffle,
        )


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
