"""What an inspection found: plain values, as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_LABEL_WIDTH = 12
_Fact = tuple[str, str]
"""A line of a report: its label, and what it says."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Least, middle and largest of some numbers."""

    least: float
    median: float
    largest: float


@dataclass(frozen=True, kw_only=True)
class LengthReport:
    """Characters of the texts, each side that is text counted."""

    mean: float
    quantiles: Mapping[str, int]
    """Length by share of the sides that are as long or shorter: `0.01`, `0.5`, ..., `1`."""
    histogram: tuple[int, ...]
    """Sides of 0-9 characters, 10-19, and so on."""


@dataclass(frozen=True, kw_only=True)
class AlphabetReport:
    """How much of the texts the alphabet covers."""

    size: int
    coverage: float
    """Share of the characters that are in the alphabet."""
    missing: Mapping[str, int]
    """The most frequent characters that are not, and how often they occur."""


@dataclass(frozen=True, kw_only=True)
class GroupReport:
    """Whose items the pairs are of."""

    num_groups: int
    largest_share: float
    """Share of all sides that are of the group with the most."""
    median_sides: float
    """Sides of the middle group."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a number of ranks do in an epoch."""

    num_steps: int
    """Steps of every rank."""
    last_batch: int
    """Pairs of the last step, over all ranks."""
    num_ranks: int
    batch_size: int
    rows_per_rank: Spread
    items_per_side: float | None
    """Different items in a batch over its sides, a mean over the first 100 batches of a shuffled
    epoch: under 1 where sides share items; None where not all rows were read."""


@dataclass(frozen=True, kw_only=True)
class SetReport:
    """One set. Figures other than those of files and rows are of the rows that were read."""

    uri: str
    schema: Mapping[str, str]
    """Columns and their types."""
    kind: str
    """What the pairs are of: text, say, or text and image."""
    made_by: Mapping[str, Any]
    num_files: int
    num_bytes: int
    num_rows: int
    num_rows_read: int
    num_bad_rows: int
    num_row_groups: int
    rows_per_row_group: Spread
    positive_share: float
    positive_share_of_row_groups: Spread
    items_per_side_of_row_groups: float
    """Different items in a row group over its sides, on average."""
    num_items: int
    num_repeated_pairs: int
    """Pairs that are there already, in the same or in the other order."""
    num_contradictions: int
    """Pairs of the same two items that have both labels."""
    num_self_pairs: int
    num_equal_contents: int
    """Pairs of two items whose content counts as the same."""
    num_labels_against_groups: int
    """Pairs whose label does not say whether the groups are the same."""
    groups: GroupReport | None
    lengths: LengthReport | None
    alphabet: AlphabetReport | None
    steps: StepReport


@dataclass(frozen=True, kw_only=True)
class LeakageReport:
    """What two sets share."""

    first: str
    second: str
    groups: int
    items: int
    contents: int
    """Contents that count as the same: texts that differ only in case and spaces."""
    examples: tuple[str, ...]
    """Up to three of the groups."""


@dataclass(frozen=True, kw_only=True)
class InspectionReport:
    """All sets, what they share, and what is wrong."""

    sets: Mapping[str, SetReport]
    leakage: tuple[LeakageReport, ...]
    problems: tuple[str, ...]
    """What is wrong; empty where nothing was found."""
    notes: tuple[str, ...]
    """What may be meant so, but is worth knowing."""

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2)

    def __str__(self) -> str:
        """The report for people."""
        lines: list[str] = []
        for name, report in self.sets.items():
            lines += [*_describe_set(name, report), ""]
        if self.leakage:
            lines.append("shared by the sets")
            for found in self.leakage:
                names = f" ({', '.join(found.examples)}, ...)" if found.examples else ""
                lines.append(
                    f"  {found.first} and {found.second}: {_count(found.groups, 'group')}{names}, "
                    f"{_count(found.items, 'item')}, {_count(found.contents, 'content')} alike"
                )
            lines.append("")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        if not self.problems:
            read_all = all(x.num_rows == x.num_rows_read for x in self.sets.values())
            which = "; every row was read" if read_all else " in the rows that were read"
            lines.append(f"No problems found{which}.")
        return "\n".join(lines)


def _describe_set(name: str, report: SetReport) -> list[str]:
    """One set in a few lines, the first of them its name."""
    facts = [
        *_describe_files(report),
        *_describe_pairs(report),
        *(_describe_texts(report.lengths) if report.lengths else ()),
        *(_describe_alphabet(report.alphabet) if report.alphabet else ()),
        _describe_steps(report.steps),
    ]
    return [
        f"{name}: {report.uri}",
        *(f"  {label:<{_LABEL_WIDTH}}{fact}" for label, fact in facts),
    ]


def _describe_files(report: SetReport) -> Iterator[_Fact]:
    rows = _range(report.rows_per_row_group, "{:,.0f}")
    yield (
        "rows",
        f"{report.num_rows:,} in {_count(report.num_files, 'file')} "
        f"({_bytes(report.num_bytes)}), {_count(report.num_row_groups, 'row group')} of {rows}",
    )
    yield "columns", ", ".join(f"{column} {kind}" for column, kind in report.schema.items())
    if report.num_rows_read < report.num_rows:
        yield "read", f"{report.num_rows_read:,} rows; --verify reads every row"
    if report.made_by:
        made_by = report.made_by
        origin = ", ".join(f"{key} {made_by[key]}" for key in ("items", "seed") if key in made_by)
        yield "made by", f"{made_by.get('command', 'unknown')} ({origin})"


def _describe_pairs(report: SetReport) -> Iterator[_Fact]:
    positives = _range(report.positive_share_of_row_groups, "{:.1%}")
    yield "labels", f"{report.positive_share:.1%} positive; {positives} by row group"
    if report.groups:
        yield (
            "groups",
            f"{report.groups.num_groups:,}; the largest has {report.groups.largest_share:.2%} "
            f"of the sides, the median one {report.groups.median_sides:,.0f} sides",
        )
    in_batch = report.steps.items_per_side
    shared = "" if in_batch is None else f", {in_batch:.2f} in a shuffled batch"
    yield (
        "items",
        f"{report.num_items:,} different; for each side "
        f"{report.items_per_side_of_row_groups:.2f} in a row group{shared}",
    )


def _describe_texts(lengths: LengthReport) -> Iterator[_Fact]:
    quantiles = ", ".join(
        f"{float(share):.0%} up to {length}" for share, length in lengths.quantiles.items()
    )
    yield "lengths", f"mean {lengths.mean:.0f}; {quantiles} characters"
    yield "", _sparkline(lengths.histogram)


def _describe_alphabet(alphabet: AlphabetReport) -> Iterator[_Fact]:
    missing = ", ".join(
        f"{_visible(character)} {count:,}" for character, count in alphabet.missing.items()
    )
    yield (
        "alphabet",
        f"{alphabet.size} characters cover {alphabet.coverage:.3%}"
        + (f"; most frequent outside: {missing}" if missing else ""),
    )


def _describe_steps(steps: StepReport) -> _Fact:
    return (
        "steps",
        f"{steps.num_steps:,} of {steps.batch_size:,} pairs over "
        f"{_count(steps.num_ranks, 'rank')}, the last of {steps.last_batch:,}; "
        f"{_range(steps.rows_per_rank, '{:,.0f}')} pairs a rank",
    )


def _sparkline(histogram: tuple[int, ...]) -> str:
    """A histogram in one line of bars, with the scale of its ends."""
    bars = "▁▂▃▄▅▆▇█"
    top = max(histogram, default=0)
    line = "".join(
        " " if count == 0 else bars[min(len(bars) - 1, count * len(bars) // (top + 1))]
        for count in histogram[:60]
    )
    more = "" if len(histogram) <= 60 else " and more"
    return f"0 {line} {10 * min(len(histogram), 60)}{more}"


def _range(spread: Spread, form: str) -> str:
    """The ends of a spread, or the one value."""
    least, largest = form.format(spread.least), form.format(spread.largest)
    return least if least == largest else f"{least} to {largest}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _bytes(number: int) -> str:
    """A number of bytes in a unit that suits it."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _visible(character: str) -> str:
    """A character as a person can tell it: itself, or its code point."""
    return character if character.isprintable() and character != " " else f"U+{ord(character):04X}"
