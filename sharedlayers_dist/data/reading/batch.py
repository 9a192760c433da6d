"""A batch of pairs, put together from parts of row groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.reading.row_groups import RowGroup
from sharedlayers_dist.data.schema import TEXT_LENGTH, Kind
from sharedlayers_dist.data.text import encode_and_count_truncated


class Batch(NamedTuple):
    """One rank's pairs of one global step: `n` rows, or one padding row where it has none."""

    a: NDArray
    """Character ids, uint16 `(n, 280)`, or the file's images, `(n, height, width, channels)`."""
    b: NDArray
    label: NDArray[np.float32]
    """0 or 1, shape `(n, 1)`; -1 marks a row that is not a sample (padding, or skipped).

    NaN where the dataset has no label and the reader requires none."""
    weight: NDArray[np.float32]
    """How much each pair counts, shape `(n,)`; 0 where the label is -1."""
    rows: NDArray[np.int64]
    """Index of each pair in the dataset's own order, shape `(n,)`; -1 for padding."""


class ItemType(Protocol):
    """What the items of a dataset are."""

    @property
    def kind(self) -> Kind:
        """Text or image."""

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item; `()` for text."""

    @property
    def item_dtype(self) -> str:
        """NumPy's name of an image's numbers; `str` for text."""


def padding_batch(items: ItemType) -> Batch:
    """One row that is no sample, for a rank without a row: it still takes part in the step."""
    if items.kind == "image":
        item = np.zeros((1, *items.item_shape), items.item_dtype)
    else:
        item = np.zeros((1, TEXT_LENGTH), np.uint16)
    return Batch(
        a=item,
        b=item,
        label=np.full((1, 1), -1, np.float32),
        weight=np.zeros(1, np.float32),
        rows=np.full(1, -1, np.int64),
    )


def drop_skipped(batch: Batch, items: ItemType) -> Batch:
    """The samples of a batch, without the bad rows that were skipped; one padding row if none.

    What Keras is given it divides by: a mean over rows that are no samples would be another one
    for each way to share them out over the ranks.
    """
    is_sample = batch.label[:, 0] != -1
    if is_sample.all():
        return batch
    if not is_sample.any():
        return padding_batch(items)
    return Batch._make(values[is_sample] for values in batch)


def split_steps(batch: Batch, counts: Rows, items: ItemType) -> Iterator[Batch]:
    """The batch of each step, from the rows of several steps end to end.

    Args:
        batch: The rows, any number of them; what is given are views of its arrays.
        counts: Rows of each step, shape `(steps,)`; a step without rows gets a padding row.
        items: What the items are.
    """
    stops = np.cumsum(counts)
    for start, stop in zip((stops - counts).tolist(), stops.tolist(), strict=True):
        if stop > start:
            yield Batch._make(values[start:stop] for values in batch)
        else:
            yield padding_batch(items)


def bytes_per_pair(items: ItemType) -> int:
    """Bytes of one row of a batch's `a` and `b`."""
    if items.kind == "image":
        return 2 * int(np.prod(items.item_shape)) * np.dtype(items.item_dtype).itemsize
    return 2 * TEXT_LENGTH * np.dtype(np.uint16).itemsize


def take_rows(group: RowGroup, rows: Rows) -> RowGroup:
    """Some rows of a row group, in the order asked for."""
    a, b = (
        items.take(pa.array(rows)) if isinstance(items, pa.Array) else items.take(rows, axis=0)
        for items in (group.a, group.b)
    )
    return RowGroup(a=a, b=b, label=group.label[rows], weight=group.weight[rows])


def join_parts(parts: list[RowGroup], order: Rows, rows: Rows, alphabet: str) -> tuple[Batch, int]:
    """The batch that `parts` make up, and how many of its texts were truncated.

    Args:
        parts: Pairs, end to end n of them.
        order: For each row of the batch, its place in `parts`, shape `(n,)`.
        rows: Index of each row of the batch in the dataset, shape `(n,)`.
        alphabet: Characters with the ids 1, 2, ...
    """
    num_truncated = 0
    if isinstance(parts[0].a, pa.Array):
        # Both sides at once: what a call costs is paid once.
        texts = pa.concat_arrays([p.a for p in parts] + [p.b for p in parts])
        in_order = texts.take(pa.array(np.concatenate([order, order + len(order)])))
        ids, num_truncated = encode_and_count_truncated(in_order, alphabet)
        a, b = ids[: len(order)], ids[len(order) :]
    else:
        a, b = (
            np.concatenate([getattr(p, side) for p in parts]).take(order, axis=0) for side in "ab"
        )
    label = np.concatenate([part.label for part in parts])[order]
    weight = np.concatenate([part.weight for part in parts])[order]
    return Batch(a=a, b=b, label=label[:, None], weight=weight, rows=rows), num_truncated
