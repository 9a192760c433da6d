"""The figures of one set, from its index and its rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharedlayers_dist.config import InspectConfig
from sharedlayers_dist.data.index import DatasetIndex
from sharedlayers_dist.data.inspection.report import (
    AlphabetReport,
    GroupReport,
    LengthReport,
    SetReport,
    Spread,
    StepReport,
)
from sharedlayers_dist.data.inspection.rows import UNKNOWN_GROUP, SetRows
from sharedlayers_dist.data.order.options import OrderOptions
from sharedlayers_dist.data.order.streams import streams_of_rank
from sharedlayers_dist.data.reading.dataset_plan import plan_dataset
from sharedlayers_dist.storage.uri import hide_secrets, open_filesystem

_NUM_MISSING = 8
_NUM_BATCHES = 100
"""Batches that the items of a batch are counted in."""
_HISTOGRAM_STEP = 10
_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99, 1.0)


@dataclass(frozen=True)
class InspectedSet:
    """A set as it was read."""

    index: DatasetIndex
    rows: SetRows


def report_set(found: InspectedSet, config: InspectConfig) -> SetReport:
    """The figures of one set."""
    index, rows = found.index, found.rows
    item = np.unique(rows.item, return_inverse=True)[1].reshape(-1, 2)
    num_items = int(item.max(initial=-1)) + 1
    low, high = item.min(axis=1, initial=num_items), item.max(axis=1, initial=0)
    pair_code = low.astype(np.int64) * num_items + high
    num_pairs = len(np.unique(pair_code))
    known = (rows.group != UNKNOWN_GROUP).all(axis=1)
    same_group = rows.group[:, 0] == rows.group[:, 1]
    is_self = low == high
    positives, sharing = by_row_group(rows, item)
    return SetReport(
        uri=hide_secrets(index.uri),
        schema=_columns(index),
        kind=index.kind,
        made_by=_made_by(index),
        num_files=len(index.files),
        num_bytes=sum(file.size for file in index.files),
        num_rows=index.num_rows,
        num_rows_read=rows.num_read,
        num_bad_rows=rows.num_bad,
        num_row_groups=len(index.row_counts),
        rows_per_row_group=_spread(index.row_counts),
        positive_share=float(rows.label.mean()) if len(rows.label) else 0.0,
        positive_share_of_row_groups=_spread(positives),
        items_per_side_of_row_groups=float(sharing.mean()) if len(sharing) else 0.0,
        num_items=num_items,
        num_repeated_pairs=len(pair_code) - num_pairs,
        num_contradictions=len(np.unique(pair_code * 2 + rows.label)) - num_pairs,
        num_self_pairs=int(is_self.sum()),
        num_equal_contents=int((~is_self & (rows.content[:, 0] == rows.content[:, 1])).sum()),
        num_labels_against_groups=int((known & ((rows.label == 1) != same_group)).sum()),
        groups=_report_groups(rows.group),
        lengths=_report_lengths(rows.lengths) if "text" in (index.a.kind, index.b.kind) else None,
        alphabet=_report_alphabet(index, rows.characters),
        steps=_report_steps(index, rows, item, config),
    )


def _made_by(index: DatasetIndex) -> dict[str, Any]:
    """How the dataset was made, by its files, which may be older than the hiding of secrets."""
    made_by = index.metadata.made_by if index.metadata else {}
    return {
        name: hide_secrets(value) if isinstance(value, str) else value
        for name, value in made_by.items()
    }


def _columns(index: DatasetIndex) -> dict[str, str]:
    """Columns of the first file with rows and their types, as a person would say them."""
    filesystem, _ = open_filesystem(index.uri)
    first = next(file for file in index.files if any(file.row_counts))
    with filesystem.open_input_file(first.path) as stream:
        schema = pq.read_schema(stream)
    return {
        field.name: f"{field.type.value_type} image {'x'.join(map(str, field.type.shape))}"
        if isinstance(field.type, pa.FixedShapeTensorType)
        else str(field.type)
        for field in schema
    }


def by_row_group(rows: SetRows, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row group's share of positives, and its different items for each side."""
    starts = np.flatnonzero(np.diff(rows.row_group, prepend=-1))
    if not len(starts):
        return np.empty(0), np.empty(0)
    counts = np.diff(starts, append=len(rows.row_group))
    positives = np.add.reduceat(rows.label.astype(np.int64), starts) / counts
    used = np.unique(np.repeat(rows.row_group, 2) * (int(item.max()) + 1) + item.ravel()) // (
        int(item.max()) + 1
    )
    num_items = np.unique(used, return_counts=True)[1]
    return positives, num_items / (2 * counts)


def _report_groups(group: np.ndarray) -> GroupReport | None:
    known = group[group != UNKNOWN_GROUP]
    if not len(known):
        return None
    sides = np.unique(known, return_counts=True)[1]
    return GroupReport(
        num_groups=len(sides),
        largest_share=float(sides.max() / sides.sum()),
        median_sides=float(np.median(sides)),
    )


def _report_lengths(lengths: np.ndarray) -> LengthReport:
    """Figures of `lengths` (n,), the number of sides with each number of characters."""
    total = int(lengths.sum())
    up_to = np.cumsum(lengths)
    quantiles = {
        f"{share:g}": int(np.searchsorted(up_to, share * total)) for share in _QUANTILES if total
    }
    longest = int(np.flatnonzero(lengths).max(initial=0))
    edges = np.arange(0, longest + 1, _HISTOGRAM_STEP)
    return LengthReport(
        mean=float(lengths @ np.arange(len(lengths)) / max(total, 1)),
        quantiles=quantiles,
        histogram=tuple(np.add.reduceat(lengths[: longest + 1], edges).tolist()),
    )


def _report_alphabet(index: DatasetIndex, characters: np.ndarray) -> AlphabetReport | None:
    """How well the stored alphabet fits; None where none is stored."""
    if index.metadata is None or index.metadata.alphabet is None:
        return None
    alphabet = index.metadata.alphabet
    outside = characters.copy()
    outside[[ord(character) for character in alphabet]] = 0
    most_frequent = np.argsort(-outside, kind="stable")[:_NUM_MISSING].tolist()
    return AlphabetReport(
        size=len(alphabet),
        coverage=1 - float(outside.sum() / max(characters.sum(), 1)),
        missing={chr(code): int(outside[code]) for code in most_frequent if outside[code]},
    )


def _report_steps(
    index: DatasetIndex, rows: SetRows, item: np.ndarray, config: InspectConfig
) -> StepReport:
    options = OrderOptions(seed=0, batch_size=config.batch_size, num_streams=config.num_streams)
    plan = plan_dataset(index, options, epoch=0)
    rows_of_stream = np.diff(plan.segments, axis=1)[:, 0]
    rows_of_rank = [
        rows_of_stream[list(streams_of_rank(config.num_streams, rank=rank, size=config.num_ranks))]
        for rank in range(config.num_ranks)
    ]
    items_per_side = None
    if len(rows.label) == index.num_rows:
        batches = [item[step.rows] for step in islice(plan.iter_steps(), _NUM_BATCHES)]
        num_items = sum(len(np.unique(batch)) for batch in batches)
        items_per_side = num_items / sum(batch.size for batch in batches)
    return StepReport(
        num_steps=plan.num_steps,
        last_batch=index.num_rows - (plan.num_steps - 1) * config.batch_size,
        num_ranks=config.num_ranks,
        batch_size=config.batch_size,
        rows_per_rank=_spread(np.array([x.sum() for x in rows_of_rank])),
        items_per_side=items_per_side,
    )


def _spread(values: np.ndarray) -> Spread:
    if not len(values):
        return Spread(least=0, median=0, largest=0)
    return Spread(
        least=float(values.min()), median=float(np.median(values)), largest=float(values.max())
    )
