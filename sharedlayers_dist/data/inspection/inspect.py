"""Looks pair datasets over: what is in them, what they share, and what is wrong with them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pyarrow as pa
from pyarrow import fs
from tqdm import tqdm

from sharedlayers_dist.config import InspectConfig
from sharedlayers_dist.data.files import is_marker, require_target
from sharedlayers_dist.data.index import index_dataset
from sharedlayers_dist.data.inspection.figures import InspectedSet, report_set
from sharedlayers_dist.data.inspection.plot import check_plot, plot_sets
from sharedlayers_dist.data.inspection.report import InspectionReport, LeakageReport, SetReport
from sharedlayers_dist.data.inspection.rows import (
    UNKNOWN_GROUP,
    GroupNumbers,
    choose_row_groups,
    read_set,
)
from sharedlayers_dist.data.schema import SET_NAMES
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import storage_error
from sharedlayers_dist.storage.uri import hide_secrets, open_filesystem, subfolder

_MAX_ROWS = 200_000
"""Rows of a set that are read unless all are asked for."""
_MANY_ROWS = 10_000
"""Rows of a set that is worth sharing out well."""


def inspect_dataset(config: InspectConfig, *, progress: bool = False) -> InspectionReport:
    """Reads pair datasets and says what is in them.

    Args:
        config: the datasets, and what to look for.
        progress: whether to show a progress bar on standard error.

    Raises:
        UserError: when there is no such dataset, or its files cannot be understood at all.

    Example:
        >>> import os, pyarrow as pa, pyarrow.parquet as pq
        >>> os.mkdir("inspected")
        >>> pairs = pa.table({"a": ["one", "one"], "b": ["two", "one"], "label": [0, 1]})
        >>> pq.write_table(pairs, "inspected/part-0.parquet")
        >>> report = inspect_dataset(InspectConfig(datasets=("inspected",)))
        >>> report.sets["inspected"].num_rows, report.problems
        (2, ('inspected: 1 pairs are of an item with itself',))
    """
    if config.plot:
        check_plot(config.plot)
    indexes = {name: index_dataset(uri) for name, uri in find_sets(config.datasets).items()}
    max_rows = None if config.verify else _MAX_ROWS
    groups = GroupNumbers()
    chosen = {name: choose_row_groups(index, max_rows) for name, index in indexes.items()}
    total = sum(int(indexes[name].row_counts[which].sum()) for name, which in chosen.items())
    with tqdm(total=total, unit=" rows", desc="inspecting", disable=not progress) as bar:
        sets = {
            name: InspectedSet(
                index,
                read_set(index, chosen[name], groups, bar.update, thoroughly=config.verify),
            )
            for name, index in indexes.items()
        }
    reports = {name: report_set(found, config) for name, found in sets.items()}
    leakage = tuple(
        _find_leakage(first, second, sets, groups.names) for first, second in combinations(sets, 2)
    )
    problems = [
        *(
            f"{name}: {problem}"
            for name in sets
            for problem in _problems_of(reports[name], sets[name])
        ),
        *_problems_between(sets, leakage, config),
    ]
    notes = [
        f"{name}: {note}" for name in sets for note in _notes_of(reports[name], sets[name], config)
    ]
    if config.num_streams % config.num_ranks:
        notes.append(
            f"{config.num_ranks} ranks do not share out {config.num_streams} streams evenly: some "
            "read a stream more than others, which wait for them"
        )
    if config.plot:
        plot_sets(sets, config.plot)
    return InspectionReport(
        sets=reports, leakage=leakage, problems=tuple(problems), notes=tuple(notes)
    )


def find_sets(datasets: tuple[str, ...]) -> dict[str, str]:
    """Names and URIs of the sets: a dataset's folders train, validation, test, or itself.

    Raises:
        UserError: when two would have the same name, or a filesystem refuses to be read.
        StorageError: when a filesystem cannot be reached.
    """
    found: list[tuple[str, str]] = []
    for uri in datasets:
        filesystem, path = open_filesystem(uri)
        path = path.rstrip("/")
        if isinstance(filesystem, fs.LocalFileSystem):
            for name in SET_NAMES:
                require_target(f"{path}/{name}")
        try:
            infos = filesystem.get_file_info([f"{path}/{name}" for name in SET_NAMES])
        except (pa.ArrowException, OSError) as error:
            raise storage_error(
                error, f"The dataset {hide_secrets(uri)} cannot be reached"
            ) from error
        inside = [info.base_name for info in infos if info.type == fs.FileType.Directory]
        if inside:
            _warn_of_others(uri, inside)
        found += [(name, subfolder(uri, name)) for name in inside] or [(path.split("/")[-1], uri)]
    if len({name for name, _ in found}) < len(found):
        found = [(hide_secrets(uri), uri) for _, uri in found]
    if len({name for name, _ in found}) < len(found):
        raise UserError(
            "Each dataset can be given once. "
            f"Received: datasets={', '.join(map(hide_secrets, datasets))}."
        )
    return dict(found)


def _warn_of_others(uri: str, sets: list[str]) -> None:
    """Says what else is in a folder of sets."""
    filesystem, path = open_filesystem(uri)
    names = (info.base_name for info in filesystem.get_file_info(fs.FileSelector(path)))
    others = sorted(name for name in names if name not in sets and not is_marker(name))
    if others:
        warnings.warn(
            f"Left out of {hide_secrets(uri)}: what is none of the sets {', '.join(SET_NAMES)} "
            f"({', '.join(others)}).",
            stacklevel=3,
        )


def _find_leakage(
    first: str, second: str, sets: Mapping[str, InspectedSet], names: list[str]
) -> LeakageReport:
    one, other = sets[first].rows, sets[second].rows
    groups = np.intersect1d(one.group, other.group)
    groups = groups[groups != UNKNOWN_GROUP]
    return LeakageReport(
        first=first,
        second=second,
        groups=len(groups),
        items=len(np.intersect1d(one.item, other.item)),
        contents=len(np.intersect1d(one.content, other.content)),
        examples=tuple(names[group] for group in groups[:3].tolist()),
    )


def _problems_of(report: SetReport, found: InspectedSet) -> list[str]:
    """What is wrong within one set."""
    problems = []
    if report.num_bad_rows:
        first = found.rows.problems[0]
        problems.append(f"{report.num_bad_rows:,} rows cannot be used; the first: {first}")
    if found.rows.group_problems:
        problems.append(f"the groups cannot be read: {found.rows.group_problems[0]}")
    for count, what in (
        (report.num_repeated_pairs, "pairs are there already, in this or the other order"),
        (report.num_contradictions, "pairs of the same two items have both labels"),
        (report.num_self_pairs, "pairs are of an item with itself"),
        (report.num_labels_against_groups, "labels do not say whether the groups are the same"),
    ):
        if count:
            problems.append(f"{count:,} {what}")
    if len(np.unique(found.rows.label)) == 1:
        problems.append(f"all labels are {found.rows.label[0]}")
    return problems


def _problems_between(
    sets: Mapping[str, InspectedSet], leakage: tuple[LeakageReport, ...], config: InspectConfig
) -> list[str]:
    """What is wrong between sets."""
    problems = []
    recorded = {
        found.index.metadata.made_by.get("split_by")
        for found in sets.values()
        if found.index.metadata
    }
    split_by = config.split_by
    if split_by == "recorded":
        split_by = "item" if recorded == {"item"} else "group"
    for pair in leakage:
        between = f"{pair.first} and {pair.second} share"
        if pair.groups and split_by == "group":
            problems.append(f"{between} {pair.groups:,} groups, such as {', '.join(pair.examples)}")
        if pair.items:
            problems.append(f"{between} {pair.items:,} items")
        if pair.contents > pair.items:  # Sharing an item is sharing its content.
            problems.append(f"{between} {pair.contents:,} contents that count as the same")
    facts: dict[str, set[object]] = {
        "kind": {found.index.kind for found in sets.values()},
        "shape of the items": {(x.index.a.shape, x.index.b.shape) for x in sets.values()},
        "type of the items": {(x.index.a.dtype, x.index.b.dtype) for x in sets.values()},
        "alphabet": {
            found.index.metadata.alphabet for found in sets.values() if found.index.metadata
        },
    }
    problems += [f"the sets differ in {fact}" for fact, values in facts.items() if len(values) > 1]
    return problems


def _notes_of(report: SetReport, found: InspectedSet, config: InspectConfig) -> list[str]:
    """What is worth knowing about a set."""
    notes = []
    if report.lengths and found.rows.lengths[0]:
        notes.append(f"{found.rows.lengths[0]:,} sides are empty texts")
    if report.lengths and report.alphabet is None:
        notes.append("no alphabet is stored; training makes one, which reads the whole dataset")
    if report.num_equal_contents:
        notes.append(f"{report.num_equal_contents:,} pairs are of two items of the same content")
    if report.num_rows >= _MANY_ROWS and report.num_row_groups < config.num_streams:
        notes.append(
            f"fewer row groups ({report.num_row_groups}) than streams ({config.num_streams}): "
            "some row groups are read by several ranks"
        )
    spread = report.rows_per_row_group
    if spread.largest > 4 * spread.median:
        notes.append(
            f"a row group of {spread.largest:,.0f} rows among others of {spread.median:,.0f}: "
            "memory is needed for the largest"
        )
    if report.groups is None and found.index.has_groups and not found.rows.group_problems:
        notes.append("the group columns hold nothing but nulls")
    return notes
