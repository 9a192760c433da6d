"""Makes a pair dataset from labelled items: keys, split, pairs, files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from sharedlayers_dist.config import MakingConfig, PairsConfig
from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.making.items import FileItems, ItemSource
from sharedlayers_dist.data.making.mining import Possible, count_possible, mine_pairs
from sharedlayers_dist.data.making.splitting import (
    LEFT_OUT,
    SET_NAMES,
    is_repeated,
    keep_in_first_set,
    split_groups,
    split_items,
)
from sharedlayers_dist.data.making.writer import FilePairs, Groups, count_row_groups, write_sets
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets, local_path

_PAIRS_PER_ITEM = 5
_PAIRS_PER_BLOCK = 256
"""Pairs that share items: a batch that is read in file order then has few different ones."""


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """What is in one set."""

    pairs: int
    positives: int
    items: int
    """Different items in the pairs."""
    groups: int
    """Different groups in the pairs."""


@dataclass(frozen=True, kw_only=True)
class PairsSummary:
    """What `make_pairs` made and what it left out."""

    output: str
    sets: Mapping[str, SetSummary]
    items: int
    """Usable rows that were read."""
    bad_rows: int
    """Rows left out because they had no item or no group, or could not be read."""
    repeated_items: int
    """Items left out because their group has the same content already."""
    items_in_several_sets: int
    """Items left out because an earlier set has the same content."""

    def __str__(self) -> str:
        """A few lines to print."""
        lines = [f"Made {sum(x.pairs for x in self.sets.values()):,} pairs in {self.output}"]
        for name, made in self.sets.items():
            lines.append(
                f"  {name:<10} {made.pairs:>11,} pairs ({made.positives:,} of one group) of "
                f"{made.items:,} items and {made.groups:,} groups"
            )
        for count, what in (
            (self.bad_rows, "rows without item or group"),
            (self.repeated_items, "items that their group has already"),
            (self.items_in_several_sets, "items that another set has already"),
        ):
            if count:
                lines.append(f"  left out: {count:,} {what}")
        return "\n".join(lines)


def make_pairs(config: PairsConfig, *, progress: bool = False) -> PairsSummary:
    """Makes the training, validation and test set that `config` describes.

    Args:
        config: the items, the sets and how to choose pairs.
        progress: whether to show a progress bar on standard error.

    Raises:
        UserError: when the items cannot be read, the output holds something already, or more pairs
            are asked for than can be made.
    """
    check_output(config.output)
    source = FileItems(
        config.items,
        column=config.text or config.image,
        group=config.group,
        kind="text" if config.text else "image",
        on_bad_row=config.on_bad_row,
    )
    made_by = {"command": "sharedlayers pairs", "items": hide_secrets(config.items)}
    return make_pairs_of(source, config, made_by=made_by, progress=progress)


def make_pairs_of(
    source: ItemSource,
    options: MakingConfig,
    *,
    made_by: Mapping[str, Any],
    progress: bool = False,
) -> PairsSummary:
    """Like `make_pairs`, for items from anywhere.

    The result depends on the items, their order and `options` alone. An interrupted call leaves
    nothing under the output's name.

    Args:
        source: the items; they are gone through twice.
        options: the output, the sets and how to choose pairs.
        made_by: what the files say about where the items come from.
        progress: whether to show a progress bar on standard error.
    """
    check_output(options.output)
    with _new_folder(options.output) as folder:
        return _make_in(folder, source, options, made_by=made_by, progress=progress)


def _make_in(
    folder: Path,
    source: ItemSource,
    options: MakingConfig,
    *,
    made_by: Mapping[str, Any],
    progress: bool,
) -> PairsSummary:
    """Makes the sets in an empty folder."""
    with tqdm(unit=" items", desc="reading items", disable=not progress) as bar:
        groups, keys = _read_groups_and_keys(source, bar)
    if not len(keys):
        raise UserError(
            "There must be items to make pairs of. Received: 0 rows with an item and a group, and "
            f"{source.num_bad_rows:,} without."
        )
    set_of_item, left_out = _split(groups.of_item, keys, options)
    sets = _mine_sets(groups.of_item, keys, set_of_item, source.item_type, options)
    summary = PairsSummary(
        output=options.output,
        sets={name: _summarize(pairs, groups.of_item) for name, pairs in sets.items()},
        items=len(keys),
        bad_rows=source.num_bad_rows,
        **left_out,
    )
    counts = {"num_items": len(keys), "bad_rows": source.num_bad_rows, **left_out}
    made_by = {
        **made_by,
        "seed": options.seed,
        "split_by": options.split_by,
        "positive_share": options.positive_share,
        "pairs": {name: len(pairs.a) for name, pairs in sets.items()},
        **counts,
    }
    total = len(keys) + sum(len(pairs.a) for pairs in sets.values())
    with tqdm(total=total, unit=" rows", desc="writing pairs", disable=not progress) as bar:
        write_sets(folder, sets, source, groups, made_by, advance=bar.update)
    return summary


def check_output(output: str) -> None:
    """Refuses an output folder that holds something.

    Raises:
        UserError: names the folder.
    """
    path = Path(local_path(output, name="output"))
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise UserError(
            f"Nothing is overwritten, and there is something already. Received: output={output!r}. "
            "Give the name of a new or empty folder."
        )


def _read_groups_and_keys(source: ItemSource, bar: tqdm) -> tuple[Groups, np.ndarray]:
    """Goes through the items once and keeps each one's group and content key."""
    code_of_group: dict[str, int] = {}
    codes, keys = [np.empty(0, np.int32)], [np.empty(0, np.uint64)]
    for items, groups in source.iter_batches():
        encoded = groups.dictionary_encode()
        code_here = [
            code_of_group.setdefault(name, len(code_of_group))
            for name in encoded.dictionary.to_pylist()
        ]
        codes.append(np.array(code_here, np.int32)[encoded.indices.to_numpy()])
        keys.append(content_keys(items))
        bar.update(len(items))
    names = pa.array(list(code_of_group), pa.string())
    return Groups(names, np.concatenate(codes)), np.concatenate(keys)


def _split(
    group_of_item: np.ndarray, keys: np.ndarray, options: MakingConfig
) -> tuple[np.ndarray, dict[str, int]]:
    """The set of each item, and how many items are in none, by reason."""
    shares = _shares(options)
    repeated = is_repeated(group_of_item, keys)
    usable = np.flatnonzero(~repeated)
    rng = np.random.default_rng([options.seed, 0])
    set_of_item = np.full(len(keys), LEFT_OUT, np.int8)
    if options.split_by == "group":
        sizes = np.bincount(group_of_item[usable])
        set_of_item[usable] = split_groups(sizes, shares, rng)[group_of_item[usable]]
    else:
        set_of_item[usable] = split_items(group_of_item[usable], shares, rng)
    kept = keep_in_first_set(set_of_item, keys)
    return kept, {
        "repeated_items": int(np.count_nonzero(repeated)),
        "items_in_several_sets": int(np.count_nonzero(kept != set_of_item)),
    }


class _Counts(NamedTuple):
    positives: int
    negatives: int


def _mine_sets(
    group_of_item: np.ndarray,
    keys: np.ndarray,
    set_of_item: np.ndarray,
    item_type: pa.DataType,
    options: MakingConfig,
) -> dict[str, FilePairs]:
    """The pairs of each set that has a share, as numbers of items."""
    members = {
        name: np.flatnonzero(set_of_item == index)
        for index, (name, share) in enumerate(zip(SET_NAMES, _shares(options), strict=True))
        if share > 0
    }
    # Groups are numbered anew in each set, and so are the keys: without gaps.
    inside = {
        name: tuple(np.unique(x[items], return_inverse=True)[1] for x in (group_of_item, keys))
        for name, items in members.items()
    }
    possible = {name: count_possible(*arrays) for name, arrays in inside.items()}
    counts = _plan_counts(possible, len(keys), options)
    sets = {}
    for index, (name, (groups, contents)) in enumerate(inside.items()):
        positives, negatives = counts[name]
        num_row_groups = count_row_groups(positives + negatives, item_type)
        blocks_per_row_group = -(-(positives + negatives) // (num_row_groups * _PAIRS_PER_BLOCK))
        mined = mine_pairs(
            groups,
            contents,
            num_positives=positives,
            num_negatives=negatives,
            num_blocks=num_row_groups * blocks_per_row_group,
            rng=np.random.default_rng([options.seed, 1, index]),
        )
        items = members[name]
        rows = mined.rows_per_block.reshape(num_row_groups, blocks_per_row_group).sum(axis=1)
        sets[name] = FilePairs(items[mined.a], items[mined.b], mined.label, rows)
    return sets


def _plan_counts(
    possible: Mapping[str, Possible], num_items: int, options: MakingConfig
) -> dict[str, _Counts]:
    """How many pairs of each label each set gets.

    Raises:
        UserError: when that is more than there are; says how many there are.
    """

    def counts_of(total: int) -> dict[str, _Counts]:
        sizes = {
            name: round(total * share)
            for name, share in zip(SET_NAMES, _shares(options), strict=True)
        }
        sizes["train"] = total - sizes["validation"] - sizes["test"]
        positives = {name: round(size * options.positive_share) for name, size in sizes.items()}
        return {name: _Counts(positives[name], sizes[name] - positives[name]) for name in possible}

    def fits(total: int) -> bool:
        counts = counts_of(total)
        return all(
            counts[name].positives <= has.positives and counts[name].negatives <= has.negatives
            for name, has in possible.items()
        )

    low, high = 0, sum(has.positives + has.negatives for has in possible.values())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    most = low
    wanted = (
        min(_PAIRS_PER_ITEM * num_items, most) if options.num_pairs is None else options.num_pairs
    )
    counts = counts_of(wanted)
    if not fits(wanted) or not all(sum(count) for count in counts.values()):
        available = "; ".join(
            f"{name}: {has.positives:,} of one group, {has.negatives:,} of two"
            for name, has in possible.items()
        )
        raise UserError(
            f"At most {most:,} pairs can be made at this balance and these shares, and each set "
            f"needs one. Received: num_pairs={options.num_pairs}, {num_items:,} items; possible in "
            f"each set: {available}. Ask for {'more' if fits(wanted) else 'fewer'} pairs, give "
            "more items, or change the shares or --split-by."
        )
    return counts


def _shares(options: MakingConfig) -> tuple[float, float, float]:
    """Shares of the training, validation and test set."""
    training = 1 - options.validation_share - options.test_share
    return training, options.validation_share, options.test_share


def _summarize(pairs: FilePairs, group_of_item: np.ndarray) -> SetSummary:
    items = np.unique(np.concatenate([pairs.a, pairs.b]))
    return SetSummary(
        pairs=len(pairs.a),
        positives=int(np.count_nonzero(pairs.label)),
        items=len(items),
        groups=len(np.unique(group_of_item[items])),
    )


@contextmanager
def _new_folder(output: str) -> Iterator[Path]:
    """A folder that gets the name `output` when all went well, and is removed when not."""
    path = Path(local_path(output, name="output"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    except OSError as error:
        raise UserError(
            f"The output folder cannot be made. Received: output={output!r}. {error}"
        ) from error
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        os.replace(partial, path)  # Takes the place of nothing or of an empty folder only.
    except OSError as error:
        raise UserError(
            f"The output folder cannot be written. Received: output={output!r}. {error}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    """The mask of file rights, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
