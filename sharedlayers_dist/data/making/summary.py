"""What making pairs made and what it left out, to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sharedlayers_dist.data.making.writer import FilePairs


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
            (self.bad_rows, "rows that cannot be used"),
            (self.repeated_items, "items that their group has already"),
            (self.items_in_several_sets, "items that another set has already"),
        ):
            if count:
                lines.append(f"  left out: {count:,} {what}")
        return "\n".join(lines)


def summarize_set(pairs: FilePairs, group_of_item: np.ndarray) -> SetSummary:
    """Counts what is in one set; `group_of_item` (num_items,) says whose item each is."""
    items = np.unique(np.concatenate([pairs.a, pairs.b]))
    return SetSummary(
        pairs=len(pairs.a),
        positives=int(np.count_nonzero(pairs.label)),
        items=len(items),
        groups=len(np.unique(group_of_item[items])),
    )
