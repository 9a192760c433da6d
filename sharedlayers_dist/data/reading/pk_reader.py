"""Reading items, and giving all pairs within batches of P groups times K of them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.files import can_be_read, find_files
from sharedlayers_dist.data.making.text_files import check_column
from sharedlayers_dist.data.order.permutation import Rows
from sharedlayers_dist.data.order.pk_batches import GroupedEpoch, pair_items, plan_groups
from sharedlayers_dist.data.reading.batch import Batch, padding_batch
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator
from sharedlayers_dist.data.reading.row_groups import (
    OnBadRow,
    Reasons,
    read_images,
    read_texts,
)
from sharedlayers_dist.data.schema import Kind, is_text
from sharedlayers_dist.data.text import encode_and_count_cut, is_utf8
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.bounded_reads import read_bounded
from sharedlayers_dist.storage.uri import hide_secrets
from sharedlayers_dist.world import World


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedItems:
    """Items in memory, and the group of each; make it with `read_items`.

    Pickled, it is the place of the items and not the items, which may be more than can be sent:
    whoever unpickles it reads them, and refuses others than those that were read first.
    """

    uri: str
    item: str
    """The column of the items."""
    group: str
    """The column of the groups."""
    on_bad_row: OnBadRow = "error"
    items: pa.Array | NDArray
    """Texts as a `large_string` array, or images, shape `(items, height, width, channels)`."""
    group_of_item: Rows
    """Number of each item's group, from 0, shape `(items,)`."""
    num_bad_rows: int = 0
    """Rows that were left out."""
    problems: tuple[str, ...] = ()
    """The first bad row of each row group that has some: where it lies and what is wrong."""

    @property
    def kind(self) -> Kind:
        """Text or image."""
        return "text" if isinstance(self.items, pa.Array) else "image"

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one item; `()` for text."""
        return () if isinstance(self.items, pa.Array) else self.items.shape[1:]

    @property
    def item_dtype(self) -> str:
        """NumPy's name of an image's numbers; `str` for text."""
        return "str" if isinstance(self.items, pa.Array) else self.items.dtype.name

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the items and their groups in their order."""
        digest = hashlib.sha256(repr((self.kind, self.item_shape, self.item_dtype)).encode())
        digest.update(self.group_of_item.tobytes())
        digest.update(content_keys(self.items, exact=True).tobytes())
        return digest.hexdigest()[:16]

    def __reduce__(self) -> tuple[Any, ...]:
        """Says how to read the items again."""
        return _read_again, (self.uri, self.item, self.group, self.on_bad_row, self.fingerprint)


def _read_again(
    uri: str, item: str, group: str, on_bad_row: OnBadRow, fingerprint: str
) -> GroupedItems:
    """Reads the items that another process has read.

    Raises:
        UserError: where they are others.
    """
    items = read_items(uri, item=item, group=group, on_bad_row=on_bad_row)
    if items.fingerprint != fingerprint:
        raise UserError(
            "All ranks must read the same items. Received: the fingerprint "
            f"{items.fingerprint} of {hide_secrets(uri)} here, {fingerprint} on rank 0. Give all "
            "hosts the same files, and leave them alone while a run begins."
        )
    return items


def read_items(uri: str, *, item: str, group: str, on_bad_row: OnBadRow = "error") -> GroupedItems:
    """Reads the items of a folder or file of Parquet into memory.

    Args:
        uri: A folder or file, as of a pair dataset.
        item: The column of texts (string) or images (fixed_shape_tensor).
        group: The column that says whose item it is, of any type that can be compared.
        on_bad_row: `error`, or `skip` to leave out a row with a null or a text that is not UTF-8.

    Raises:
        UserError: in one line that names the file, and the row group and row where one is to
            blame: for files that cannot be read, columns that are missing or differ between
            files, or a bad row that is not skipped.
    """
    filesystem, files = find_files(uri)
    tables: list[pa.Table] = []
    problems: list[str] = []
    num_bad_rows = 0
    for file in files:
        for table, num_bad, problem in _iter_row_groups(filesystem, file.path, (item, group)):
            if problem and on_bad_row == "error":
                raise UserError(
                    f"{problem}. Correct it, or leave such rows out with --on-bad-row skip."
                )
            tables.append(table)
            num_bad_rows += num_bad
            problems += [problem] if problem else []
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as e:
        raise UserError(f"The files of {hide_secrets(uri)} differ: {one_line(e)}") from e
    column = table[item]
    if not (is_text(column.type) or isinstance(column.type, pa.FixedShapeTensorType)):
        raise UserError(
            f"Items must be text (string) or images (fixed_shape_tensor). Received: column "
            f"{item!r} of type {column.type} in {hide_secrets(uri)}."
        )
    codes = table[group].combine_chunks().dictionary_encode()
    return GroupedItems(
        uri=uri,
        item=item,
        group=group,
        on_bad_row=on_bad_row,
        items=read_texts(column) if is_text(column.type) else read_images(column),
        group_of_item=codes.indices.to_numpy().astype(np.int64),
        num_bad_rows=num_bad_rows,
        problems=tuple(problems),
    )


def _iter_row_groups(
    filesystem: fs.FileSystem, path: str, columns: tuple[str, str]
) -> Iterator[tuple[pa.Table, int, str]]:
    """Two columns of each row group without its bad rows, how many these are, and the first.

    Of a row group that is corrupt all rows are bad. The first table has none, for the schema.
    """
    try:
        with read_bounded(
            partial(pq.ParquetFile, filesystem=filesystem), path, what=path
        ) as parquet:
            schema = parquet.schema_arrow
            for column in columns:
                check_column(path, column, schema.names)
            empty = pa.Table.from_batches([], schema).select(columns)
            yield empty, 0, ""
            for number in range(parquet.num_row_groups):
                place = f"{path}, row group {number}"
                try:
                    table = read_bounded(parquet.read_row_group, number, list(columns), what=place)
                except (pa.ArrowException, OSError) as e:
                    if not can_be_read(filesystem, path):
                        raise
                    num_rows = parquet.metadata.row_group(number).num_rows
                    yield empty, num_rows, f"{place} cannot be read: {one_line(e)}"
                    continue
                table = table.select(columns)
                reasons = _find_bad(table)
                problem = ""
                if reasons.is_bad.any():
                    row, reason = reasons.first()
                    problem = f"{place}, row {row}: {reason}"
                    table = table.filter(pa.array(~reasons.is_bad))
                yield table, int(np.count_nonzero(reasons.is_bad)), problem
    except (pa.ArrowException, OSError) as e:
        raise UserError(f"{path} cannot be read: {one_line(e)}") from e


def _find_bad(table: pa.Table) -> Reasons:
    reasons = Reasons(table.num_rows)
    for name in table.column_names:
        column = table[name]
        reasons.add(f"column {name!r} is null", column.is_null().to_numpy())
        if is_text(column.type):
            reasons.add(f"column {name!r} is not UTF-8", ~is_utf8(read_texts(column)))
    return reasons


class PKReader:
    """Gives one rank's share of all pairs within batches of P groups times K items.

    It is used like a `PairReader`. Pairs of one group are positives; the weights make positives
    and negatives of each global batch count the same. Each rank holds all items in memory; each
    item is encoded once for all pairs of its batch. Any number of ranks sees the same batches.

    Args:
        index: The items.
        alphabet: Characters with the ids 1, 2, ...; not used for images.
        groups_per_batch: P, groups of a global batch.
        items_per_group: K, the most items of a group in a batch.
        seed: Seed of the order.
        world: Which rank reads.
        batches_ahead: Batches that wait for the consumer at most.

    Raises:
        UserError: where the items make no pairs of both kinds, or a number is out of its range.
    """

    def __init__(
        self,
        index: GroupedItems,
        *,
        alphabet: str,
        groups_per_batch: int,
        items_per_group: int,
        seed: int,
        world: World,
        batches_ahead: int = 4,
    ) -> None:
        if batches_ahead < 1:
            raise UserError(
                f"`batches_ahead` must be at least 1. Received: batches_ahead={batches_ahead}."
            )
        self.index = index
        self.alphabet = alphabet
        self.groups_per_batch = groups_per_batch
        self.items_per_group = items_per_group
        self.seed = seed
        self.world = world
        self.batches_ahead = batches_ahead
        self.wait_seconds = 0.0
        """Seconds that the consumer of `batches` has waited for data so far."""
        self.num_cut_texts = 0
        """Texts encoded so far that lost their beginning for being longer than 280 characters."""
        self.num_bad_rows = index.num_bad_rows if world.is_rank_zero else 0
        """Rows left out when the items were read: by every rank, so that one of them counts."""
        self.problems = list(index.problems)
        self.error: Exception | None = None
        """What reading failed with; TensorFlow reports its text alone."""
        self._epoch = self.plan(0)

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of an epoch, the same on every rank and in every epoch."""
        return self._epoch.num_steps

    def pairs_of_step(self, step: int) -> int:
        """Pairs of global batch `step`, over all ranks, in the epoch that was begun last."""
        return self._epoch.num_pairs(step)

    def plan(self, epoch: int) -> GroupedEpoch:
        """The batches of one epoch."""
        return plan_groups(
            self.index.group_of_item,
            groups_per_batch=self.groups_per_batch,
            items_per_group=self.items_per_group,
            seed=self.seed,
            epoch=epoch,
        )

    def batches(self, epoch: int, start_step: int = 0) -> PrefetchIterator[Batch]:
        """This rank's batches of `epoch` from global step `start_step` on, one for each step.

        Raises:
            UserError: where there is no such step.
        """
        plan = self._epoch = self.plan(epoch)
        if not 0 <= start_step <= plan.num_steps:
            raise UserError(
                f"`start_step` must lie within the epoch's {plan.num_steps} steps. "
                f"Received: start_step={start_step}."
            )
        return PrefetchIterator(
            lambda: self._make_batches(plan, epoch, start_step),
            depth=self.batches_ahead,
            on_wait=self._add_wait,
        )

    def _add_wait(self, seconds: float) -> None:
        self.wait_seconds += seconds

    def _make_batches(
        self, plan: GroupedEpoch, epoch: int, start_step: int
    ) -> Generator[Batch, None, None]:
        try:
            yield from self._iter_batches(plan, epoch, start_step)
        except Exception as e:
            self.error = e
            raise

    def _iter_batches(self, plan: GroupedEpoch, epoch: int, start_step: int) -> Iterator[Batch]:
        for step in range(start_step, plan.num_steps):
            items = plan.items_of_step(step)
            pairs = pair_items(
                self.index.group_of_item[items],
                seed=self.seed,
                epoch=epoch,
                step=step,
                rank=self.world.rank,
                size=self.world.size,
            )
            if not pairs.label.size:
                yield padding_batch(self.index)
                continue
            values = self._read(items)
            yield Batch(
                a=values[pairs.a],
                b=values[pairs.b],
                label=pairs.label[:, None],
                weight=pairs.weight,
                rows=items[pairs.a] * len(self.index.group_of_item) + items[pairs.b],
            )

    def _read(self, items: Rows) -> NDArray:
        if isinstance(self.index.items, pa.Array):
            texts = self.index.items.take(pa.array(items))
            ids, num_cut = encode_and_count_cut(texts, self.alphabet)
            self.num_cut_texts += num_cut
            return ids
        return self.index.items[items]
