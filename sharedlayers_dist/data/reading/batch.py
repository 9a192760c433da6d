"""A batch of pairs, put together from parts of row groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sharedlayers_dist.data.items.codec import Encoded, Items, PairCodecs, join_items, take_items
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.row_groups import RowGroup


class Batch(NamedTuple):
    """One rank's pairs of one global step: `n` rows, or one padding row where it has none."""

    a: NDArray
    """The items of the one side, `(n, *shape)` of the shape and type of their codec."""
    b: NDArray
    label: NDArray[np.float32]
    """0 or 1, shape `(n, 1)`; -1 marks a row that is not a sample (padding, or skipped).

    NaN where the dataset has no label and the reader requires none."""
    weight: NDArray[np.float32]
    """How much each pair counts, shape `(n,)`; 0 where the label is -1."""
    rows: NDArray[np.int64]
    """Index of each pair in the dataset's own order, shape `(n,)`; -1 for padding."""


class Joined(NamedTuple):
    """A batch, and what encoding its items has found."""

    batch: Batch
    num_truncated: int
    """Items that were truncated."""
    bad: dict[int, str]
    """Why rows are bad of which only encoding tells, by their places in the batch."""


def padding_batch(codecs: PairCodecs) -> Batch:
    """One row that is no sample, for a rank without a row: it still takes part in the step."""
    a, b = (np.zeros((1, *codec.shape), codec.dtype) for codec in codecs)
    return Batch(
        a=a,
        b=b,
        label=np.full((1, 1), -1, np.float32),
        weight=np.zeros(1, np.float32),
        rows=np.full(1, -1, np.int64),
    )


def drop_skipped(batch: Batch, codecs: PairCodecs) -> Batch:
    """The samples of a batch, without the bad rows that were skipped; one padding row if none.

    What Keras is given it divides by: a mean over rows that are no samples would be another one
    for each way to share them out over the ranks.
    """
    is_sample = batch.label[:, 0] != -1
    if is_sample.all():
        return batch
    if not is_sample.any():
        return padding_batch(codecs)
    return Batch._make(values[is_sample] for values in batch)


def split_steps(batch: Batch, counts: Rows, codecs: PairCodecs) -> Iterator[Batch]:
    """The batch of each step, from the rows of several steps end to end.

    Args:
        batch: The rows, any number of them; what is given are views of its arrays.
        counts: Rows of each step, shape `(steps,)`; a step without rows gets a padding row.
        codecs: Those of the batch's items.
    """
    stops = np.cumsum(counts)
    for start, stop in zip((stops - counts).tolist(), stops.tolist(), strict=True):
        if stop > start:
            yield Batch._make(values[start:stop] for values in batch)
        else:
            yield padding_batch(codecs)


def take_rows(group: RowGroup, rows: Rows) -> RowGroup:
    """Some rows of a row group, in the order asked for."""
    a, b = (take_items(items, rows) for items in (group.a, group.b))
    return RowGroup(a=a, b=b, label=group.label[rows], weight=group.weight[rows])


def join_parts(parts: list[RowGroup], order: Rows, rows: Rows, codecs: PairCodecs) -> Joined:
    """The batch that `parts` make up; rows that only encoding finds to be bad have the label -1.

    Args:
        parts: Pairs, end to end n of them.
        order: For each row of the batch, its place in `parts`, shape `(n,)`.
        rows: Index of each row of the batch in the dataset, shape `(n,)`.
        codecs: Those of the items.
    """
    a, b = _encode_sides([part.a for part in parts], [part.b for part in parts], order, codecs)
    label = np.concatenate([part.label for part in parts])[order]
    weight = np.concatenate([part.weight for part in parts])[order]
    bad = {
        row: f"column {side!r} {reason}"
        for side, encoded in (("b", b), ("a", a))
        for row, reason in encoded.bad.items()
    }
    if bad:
        label[list(bad)], weight[list(bad)] = -1, 0
        for encoded in (a, b):
            encoded.values[list(bad)] = 0
    batch = Batch(a=a.values, b=b.values, label=label[:, None], weight=weight, rows=rows)
    return Joined(batch, a.num_truncated + b.num_truncated, bad)


def _encode_sides(
    a: list[Items], b: list[Items], order: Rows, codecs: PairCodecs
) -> tuple[Encoded, Encoded]:
    """Encodes both sides; at once if they can be, since what a call costs is paid once then."""
    if codecs.a != codecs.b:
        of_a, of_b = (
            codec.encode(take_items(join_items(parts), order))
            for codec, parts in zip(codecs, (a, b), strict=True)
        )
        return of_a, of_b
    num_rows = len(order)
    places = np.concatenate([order, order + num_rows])
    values, num_truncated, bad = codecs.a.encode(take_items(join_items([*a, *b]), places))
    bad_a = {row: reason for row, reason in bad.items() if row < num_rows}
    bad_b = {row - num_rows: reason for row, reason in bad.items() if row >= num_rows}
    return Encoded(values[:num_rows], num_truncated, bad_a), Encoded(values[num_rows:], 0, bad_b)
