"""The picture of an inspection: the distributions of each set, side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from sharedlayers_dist.data.inspection.figures import InspectedSet, by_row_group
from sharedlayers_dist.data.inspection.rows import UNKNOWN_GROUP, open_plainly
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import storage_error
from sharedlayers_dist.storage.uri import local_path

_STEP = 10
_MOST_LENGTHS = 600
_NUM_CHARACTERS = 40
_NUM_PAIRS = 8
_COLOURS = ("#3366aa", "#dd8833", "#449966", "#aa4455", "#8866bb")


def check_plot(path: str) -> None:
    """Refuses a picture for which there is no folder, before anything is read.

    Raises:
        UserError: names the picture.
    """
    folder = os.path.dirname(local_path(path, name="plot"))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"The picture cannot be written. Received: plot={path!r}. Name a file in a folder that "
            f"is there and may be written to; {folder} is not."
        )


def plot_sets(sets: Mapping[str, InspectedSet], path: str) -> None:
    """Draws the sets' distributions to a PNG file.

    Raises:
        UserError: when the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), dpi=110, layout="constrained")
    axes = figure.subplots(2, 3)
    items = {
        name: np.unique(found.rows.item, return_inverse=True)[1].reshape(-1, 2)
        for name, found in sets.items()
    }
    first = next(iter(sets.values()))
    colours = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(sets)}
    a, b = first.index.a, first.index.b
    if "text" in (a.kind, b.kind):
        _draw_lengths(axes[0, 0], sets, colours)
        _draw_characters(axes[1, 2], sets)
    else:
        if a == b and a.kind == "image" and len(a.shape) in (2, 3):
            _draw_pairs(axes[0, 0], first)
        else:
            axes[0, 0].set_axis_off()
        axes[1, 2].set_axis_off()
    _draw_labels(axes[0, 1], sets)
    _draw_row_groups(axes[0, 2], sets, items, colours)
    _draw_groups(axes[1, 0], sets, colours)
    _draw_uses(axes[1, 1], items, colours)
    try:
        figure.savefig(local_path(path, name="plot"))
    except OSError as error:
        raise storage_error(
            error, f"The picture cannot be written. Received: plot={path!r}"
        ) from error


def _draw_lengths(axes: Any, sets: Mapping[str, InspectedSet], colours: Mapping[str, str]) -> None:
    edges = np.arange(0, _MOST_LENGTHS + 1, _STEP)
    longest = 0
    for name, found in sets.items():
        lengths = found.rows.lengths
        sides = np.add.reduceat(lengths, edges[:-1])
        sides[-1] = lengths[edges[-2] :].sum()
        share = sides / max(int(sides.sum()), 1)
        axes.stairs(share, edges, color=colours[name], label=name, linewidth=1.5)
        longest = max(longest, int(edges[np.flatnonzero(sides).max(initial=0) + 1]))
    axes.set(
        title="Length of the texts",
        xlabel="characters",
        ylabel=f"share of sides, per {_STEP} characters",
        xlim=(0, longest),
    )
    axes.legend()


def _draw_labels(axes: Any, sets: Mapping[str, InspectedSet]) -> None:
    names = list(sets)
    positives = np.array([int(found.rows.label.sum()) for found in sets.values()])
    negatives = np.array([len(found.rows.label) for found in sets.values()]) - positives
    places = np.arange(len(names))
    for offset, counts, label, colour in (
        (-0.2, positives, "1: of one group", "#333333"),
        (0.2, negatives, "0: of two", "#bbbbbb"),
    ):
        bars = axes.bar(places + offset, counts, 0.4, label=label, color=colour)
        axes.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8)
    axes.set_xticks(places, names)
    axes.set(title="Labels", ylabel="pairs")
    axes.margins(y=0.12)
    axes.legend()


def _draw_row_groups(
    axes: Any,
    sets: Mapping[str, InspectedSet],
    items: Mapping[str, np.ndarray],
    colours: Mapping[str, str],
) -> None:
    for name, found in sets.items():
        positives, _ = by_row_group(found.rows, items[name])
        rows = np.unique(found.rows.row_group, return_counts=True)[1]
        axes.scatter(rows, positives, s=14, alpha=0.5, color=colours[name], label=name)
    axes.set(title="Row groups", xlabel="pairs", ylabel="share of positives", ylim=(-0.02, 1.02))
    axes.set_xlim(left=0)
    axes.legend()


def _draw_groups(axes: Any, sets: Mapping[str, InspectedSet], colours: Mapping[str, str]) -> None:
    for name, found in sets.items():
        known = found.rows.group[found.rows.group != UNKNOWN_GROUP]
        sides = np.sort(np.unique(known, return_counts=True)[1])[::-1]
        if len(sides):
            rank = np.arange(len(sides)) + 1
            axes.loglog(rank, sides, ".-", markersize=3, color=colours[name], label=name)
    axes.set(title="Sides of each group", xlabel="group, the largest first", ylabel="sides")
    if axes.lines:
        axes.set_ylim(bottom=0.8)
        axes.legend()


def _draw_uses(axes: Any, items: Mapping[str, np.ndarray], colours: Mapping[str, str]) -> None:
    for name, item in items.items():
        uses = np.bincount(np.bincount(item.ravel()))
        share = uses / max(int(uses.sum()), 1)
        edges = np.arange(len(uses) + 1) - 0.5
        axes.stairs(share, edges, color=colours[name], label=name, linewidth=1.5)
    axes.set(title="Uses of an item", xlabel="sides", ylabel="share of items")
    axes.set_xlim(left=0)
    axes.legend()


def _draw_characters(axes: Any, sets: Mapping[str, InspectedSet]) -> None:
    name, found = next(iter(sets.items()))
    counts = found.rows.characters
    most_frequent = np.argsort(-counts, kind="stable")[:_NUM_CHARACTERS]
    most_frequent = most_frequent[counts[most_frequent] > 0]
    places = np.arange(len(most_frequent))
    axes.bar(places, counts[most_frequent] / max(int(counts.sum()), 1), color="#777777")
    # Fonts rarely have emoji: a character outside of ASCII is named by its code point.
    labels = [chr(code) if 32 < code < 127 else f"U+{code:04X}" for code in most_frequent.tolist()]
    axes.set_xticks(places, labels, fontsize=7, parse_math=False)
    for label in axes.get_xticklabels():
        label.set_rotation(90 if len(label.get_text()) > 1 else 0)
    axes.set(title=f"Most frequent characters of {name}", ylabel="share of characters")


def _draw_pairs(axes: Any, found: InspectedSet) -> None:
    """The first pairs: one in each column, `a` above `b`."""
    row_group = int(np.flatnonzero(found.index.row_counts)[0])
    loaded = open_plainly(found.index).load(row_group)
    shown = [np.asarray(side[:_NUM_PAIRS]) for side in (loaded.a, loaded.b)]
    strip = np.concatenate([np.concatenate(list(side), axis=1) for side in shown])
    if strip.ndim == 3:
        strip = strip[..., :3] if strip.shape[-1] >= 3 else strip[..., 0]
    axes.imshow(_as_bytes(strip), cmap="gray", vmin=0, vmax=255, aspect="equal")
    width = shown[0].shape[2]
    labels = [str(int(label)) for label in loaded.label[:_NUM_PAIRS]]
    axes.set_xticks(width * (np.arange(len(labels)) + 0.5), labels)
    axes.set_yticks([])
    axes.set(title="The first pairs and their labels")


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Pixels of any type as uint8, from the least to the largest of them where they are not yet."""
    if pixels.dtype == np.uint8:
        return pixels
    values = np.nan_to_num(pixels.astype(np.float64))
    return (255 * (values - values.min()) / max(np.ptp(values), 1e-9)).astype(np.uint8)
