"""Items spilled to the disk for the parts of the output, each of which is made from its own alone.

So at most one part is in memory, and all reading and writing is in sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sharedlayers_dist.data.making.items import ItemSource

_ITEMS_AT_ONCE = 1024
"""Of those that are repeated as often as pairs use them."""


class NeededItems(NamedTuple):
    """Which part uses which item: each combination once, in order of item."""

    item: np.ndarray
    """int64 (n,), number of the item among all items of the source."""
    part: np.ndarray
    """int64 (n,)."""


class UsedItems(NamedTuple):
    """Consecutive items of the source."""

    items: pa.Array
    uses: np.ndarray
    """int (len(items),), in how many sides of training pairs each is."""


def plan_needed(items_of_parts: Sequence[np.ndarray]) -> NeededItems:
    """Which part uses which item, from the numbers of the items of each part in any order."""
    items = [np.unique(of_part) for of_part in items_of_parts]
    item = np.concatenate(items)
    part = np.repeat(np.arange(len(items)), [len(of_part) for of_part in items])
    order = np.argsort(item, kind="stable")
    return NeededItems(item[order], part[order])


def spill_items(
    folder: Path,
    needed: NeededItems,
    source: ItemSource,
    uses_in_training: np.ndarray,
    advance: Callable[[int], object],
) -> Iterator[UsedItems]:
    """Copies every part's items to a file of its own, and gives all items as they pass.

    Args:
        folder: where the files are made.
        needed: which part uses which item.
        source: the items, numbered in their order.
        uses_in_training: int (num_items,), in how many sides of training pairs each item is.
        advance: called with the number of items read, as they are.

    Raises:
        RuntimeError: when the source gives another number of items than before.
    """
    # A part may be larger than 32 bits can tell.
    spilled = _with_long_offsets(source.item_type)
    schema = pa.schema([("number", pa.int64()), ("item", spilled)])
    start = 0
    with ExitStack() as stack:
        writers = []
        for part in range(int(needed.part.max()) + 1):
            stream = stack.enter_context(pa.OSFile(str(_path_of(folder, part)), "wb"))
            writers.append(stack.enter_context(pa.ipc.new_stream(stream, schema)))
        for items, _ in source.iter_batches():
            stop = start + len(items)
            here = slice(*np.searchsorted(needed.item, [start, stop]))
            numbers, part_of_number = needed.item[here], needed.part[here]
            for part in np.unique(part_of_number).tolist():
                of_part = numbers[part_of_number == part]
                taken = items.take(pa.array(of_part - start))
                taken = taken if taken.type == spilled else taken.cast(spilled)
                writers[part].write_batch(
                    pa.record_batch([pa.array(of_part), taken], schema=schema)
                )
            yield UsedItems(items, uses_in_training[start:stop])
            start = stop
            advance(len(items))
    if start != len(uses_in_training):
        raise RuntimeError(
            "The items changed while they were being read. Received: "
            f"{len(uses_in_training)} items at first, then {start}."
        )


def iter_sides(used: Iterator[UsedItems]) -> Iterator[pa.Array]:
    """The items as often as training pairs use them, a few at a time."""
    for items, uses in used:
        for start in range(0, len(items), _ITEMS_AT_ONCE):
            times = uses[start : start + _ITEMS_AT_ONCE]
            yield items.take(pa.array(np.repeat(np.arange(start, start + len(times)), times)))


def take_part(folder: Path, part: int) -> tuple[np.ndarray, pa.Array]:
    """The numbers (n,) of a part's items, ascending, and the items (n,); removes their file."""
    path = _path_of(folder, part)
    with pa.OSFile(str(path)) as stream, pa.ipc.open_stream(stream) as reader:
        table = reader.read_all()
    path.unlink()
    return table["number"].to_numpy(), table["item"].combine_chunks()


def _with_long_offsets(item_type: pa.DataType) -> pa.DataType:
    if pa.types.is_string(item_type):
        return pa.large_string()
    if pa.types.is_binary(item_type):
        return pa.large_binary()
    if pa.types.is_list(item_type):
        return pa.large_list(item_type.value_field)
    return item_type


def _path_of(folder: Path, part: int) -> Path:
    return folder / f"{part}.arrow"
