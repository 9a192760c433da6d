"""Makes a pair dataset from labelled items: keys, split, pairs, files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from sharedlayers_dist.config import MakingConfig, PairsConfig
from sharedlayers_dist.data.content_keys import content_keys
from sharedlayers_dist.data.making.image_folders import ImageFolderItems
from sharedlayers_dist.data.making.item_types import count_bytes
from sharedlayers_dist.data.making.items import FileItems, ItemSource
from sharedlayers_dist.data.making.output_folder import check_output, new_folder
from sharedlayers_dist.data.making.planning import mine_sets, split_into_sets
from sharedlayers_dist.data.making.summary import PairsSummary, summarize_set
from sharedlayers_dist.data.making.writer import Groups, write_sets
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets


def make_pairs(config: PairsConfig, *, progress: bool = False) -> PairsSummary:
    """Makes the training, validation and test set that `config` describes.

    Args:
        config: the items, the sets and how to choose pairs.
        progress: whether to show a progress bar on standard error.

    Raises:
        UserError: when the items cannot be read, the output holds something already, or more pairs
            are asked for than can be made.

    Example:
        >>> with open("tweets.csv", "w") as file:
        ...     print("text,author", file=file)
        ...     for n in range(90):
        ...         print(f"tweet {n} of {n % 9},author {n % 9}", file=file)
        >>> config = PairsConfig(
        ...     items="tweets.csv", text="text", group="author", output="pairs", num_pairs=100
        ... )
        >>> print(make_pairs(config))
        Made 100 pairs in pairs
          train               80 pairs (40 of one group) of 45 items and 5 groups
          validation          10 pairs (5 of one group) of 8 items and 2 groups
          test                10 pairs (5 of one group) of 8 items and 2 groups
    """
    check_output(config.output)
    source = _open_items(config)
    made_by = {"command": "sharedlayers pairs", "items": hide_secrets(config.items)}
    return make_pairs_of(source, config, made_by=made_by, progress=progress)


def _open_items(config: PairsConfig) -> ItemSource:
    """The items that `config` names: a column of files, or files in folders."""
    if not config.group:
        return ImageFolderItems(config.items, on_bad_row=config.on_bad_row)
    return FileItems(
        config.items,
        column=config.item or config.text or config.image,
        group=config.group,
        kind="text" if config.text else "image" if config.image else "any",
        on_bad_row=config.on_bad_row,
    )


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

    Raises:
        UserError: when the output holds something already, or more pairs are asked for than can be
            made.
        RuntimeError: when the items are others the second time.

    Example:
        >>> from sharedlayers_dist.data import ArrayItems
        >>> texts = pa.array([f"tweet {n} of {n % 9}" for n in range(90)])
        >>> source = ArrayItems(texts, pa.array([f"author {n % 9}" for n in range(90)]))
        >>> options = MakingConfig(output="made", num_pairs=20, split_by="item")
        >>> summary = make_pairs_of(source, options, made_by={"command": "an example"})
        >>> {name: made.pairs for name, made in summary.sets.items()}
        {'train': 16, 'validation': 2, 'test': 2}
    """
    check_output(options.output)
    with new_folder(options.output) as folder:
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
        groups, keys, num_bytes = _read_groups_and_keys(source, bar)
    if not len(keys):
        raise UserError(
            "There must be items to make pairs of. Received: 0 rows with an item and a group, and "
            f"{source.num_bad_rows:,} without"
            + (" (--on-bad-row error says why the first is)." if source.num_bad_rows else ".")
        )
    set_of_item, left_out = split_into_sets(groups.of_item, keys, options)
    sets = mine_sets(groups.of_item, keys, set_of_item, num_bytes / len(keys), options)
    summary = PairsSummary(
        output=options.output,
        sets={name: summarize_set(pairs, groups.of_item) for name, pairs in sets.items()},
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


def _read_groups_and_keys(source: ItemSource, bar: tqdm) -> tuple[Groups, np.ndarray, int]:
    """Goes through the items once; each one's group and content key, and the bytes of all."""
    num_bytes = 0
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
        num_bytes += count_bytes(items)
        bar.update(len(items))
    names = pa.array(list(code_of_group), pa.string())
    return Groups(names, np.concatenate(codes)), np.concatenate(keys), num_bytes
