"""Reading items, and giving all pairs within batches of P groups times K of them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sharedlayers_dist.data.ahead import AheadIterator
from sharedlayers_dist.data.batch import Batch, padding_batch
from sharedlayers_dist.data.files import find_files, hide_secrets, one_line
from sharedlayers_dist.data.grouping import GroupedEpoch, pair_items, plan_groups
from sharedlayers_dist.data.permutation import Rows
from sharedlayers_dist.data.row_groups import read_images, read_texts
from sharedlayers_dist.data.schema import Kind, is_text
from sharedlayers_dist.data.text import encode_and_count_cut
from sharedlayers_dist.world import World


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedItems:
    """Items in memory, and the group of each; make it with `read_items`."""

    uri: str
    items: pa.Array | NDArray
    """Texts as a `large_string` array, or images, shape `(items, height, width, channels)`."""
    group_of_item: Rows
    """Number of each item's group, from 0, shape `(items,)`."""

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

    @property
    def fingerprint(self) -> str:
        """Hash of the groups in their order: other items mean another order."""
        return hashlib.sha256(self.group_of_item.tobytes()).hexdigest()[:16]


def read_items(uri: str, *, item: str, group: str) -> GroupedItems:
    """Reads the items of a folder or file of Parquet into memory.

    Args:
        uri: A folder or file, as of a pair dataset.
        item: The column of texts (string) or images (fixed_shape_tensor).
        group: The column that says whose item it is, of any type that can be compared.

    Raises:
        ValueError: in one line, for files that cannot be read, columns that are missing or differ
            between files, or a null.
    """
    filesystem, files = find_files(uri)
    tables = []
    for file in files:
        try:
            table = pq.read_table(file.path, columns=[item, group], filesystem=filesystem)
            tables.append(table.select([item, group]))
        except (pa.ArrowException, OSError, KeyError) as e:
            raise ValueError(f"{file.path} cannot be read: {one_line(e)}") from e
        for name in (item, group):
            if tables[-1][name].null_count:
                raise ValueError(
                    f"Items need values. Received: {tables[-1][name].null_count} nulls in column "
                    f"{name!r} of {file.path}."
                )
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowInvalid as e:
        raise ValueError(f"The files of {hide_secrets(uri)} differ: {one_line(e)}") from e
    column = table[item]
    if not (is_text(column.type) or isinstance(column.type, pa.FixedShapeTensorType)):
        raise ValueError(
            f"Items must be text (string) or images (fixed_shape_tensor). Received: column "
            f"{item!r} of type {column.type} in {hide_secrets(uri)}."
        )
    codes = table[group].combine_chunks().dictionary_encode()
    return GroupedItems(
        uri=uri,
        items=read_texts(column) if is_text(column.type) else read_images(column),
        group_of_item=codes.indices.to_numpy().astype(np.int64),
    )


class GroupedPairReader:
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
        ValueError: where the items make no pairs of both kinds.
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
        self.num_bad_rows = 0
        """None: a null is refused when the items are read."""
        self.problems: list[str] = []
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

    def batches(self, epoch: int, start_step: int = 0) -> AheadIterator[Batch]:
        """This rank's batches of `epoch` from global step `start_step` on, one for each step.

        Raises:
            ValueError: where there is no such step.
        """
        plan = self._epoch = self.plan(epoch)
        if not 0 <= start_step <= plan.num_steps:
            raise ValueError(
                f"`start_step` must lie within the epoch's {plan.num_steps} steps. "
                f"Received: start_step={start_step}."
            )
        return AheadIterator(
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
