"""Copies of row groups of object stores: of which pairs a run keeps them, and what it says."""

from __future__ import annotations

import numpy as np

from sharedlayers_dist import dist
from sharedlayers_dist.config import DataConfig
from sharedlayers_dist.data import CacheOptions, GroupedItems, Reader
from sharedlayers_dist.storage.uri import hide_secrets, is_on_disk
from sharedlayers_dist.training.data_sources import CodedSource, Source

_KINDS = ("found", "missing", "damaged", "not_kept")


def plan_cache(source: Source, config: DataConfig) -> CacheOptions | None:
    """The cache of what a run reads; None where there is to be none, or nothing to keep.

    Pairs on a disk need none, and items of groups are held by those that read them.
    """
    if not config.data_cache or isinstance(source, GroupedItems):
        return None
    if all(is_on_disk(part.uri) for part in source.parts):
        return None
    return CacheOptions(folder=config.data_cache, max_bytes=int(config.data_cache_gigabytes * 1e9))


def describe_cache(
    training: CodedSource, validation: CodedSource | None, config: DataConfig
) -> list[str]:
    """Says what is kept, in a line, where a run is to keep anything."""
    if not config.data_cache:
        return []
    sources = [pairs.source for pairs in (training, validation) if pairs is not None]
    kept = [hide_secrets(source.uri) for source in sources if plan_cache(source, config)]
    if not kept:
        return [
            f"data_cache={config.data_cache!r} is not used: the data are on disks already, as "
            "pairs or as items of groups."
        ]
    return [
        f"Row groups of {' and '.join(dict.fromkeys(kept))} are kept in {config.data_cache}, up to "
        f"{config.data_cache_gigabytes:g} GB on each host."
    ]


def describe_use(reader: Reader) -> list[str]:
    """Says in a line what came from the caches of all ranks, if any; every rank must call it."""
    counts = np.array([reader.stats.cache[kind] for kind in _KINDS])
    found, missing, damaged, not_kept = dist.allreduce_sum([counts])[0]
    if not found + missing:
        return []
    line = f"{found} row groups came from the cache, {missing} from the object store"
    line += f"; {damaged} copies were damaged" if damaged else ""
    line += f"; {not_kept} could not be kept" if not_kept else ""
    return [f"{line}."]
