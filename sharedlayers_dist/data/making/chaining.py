"""The order of pairs in a file: chains, in which each pair shares an item with the one before.

Any w consecutive rows of a chain have about w + 1 different items instead of 2 w, wherever they are
cut, and pairs of as many groups as there are positives among them. The labels take turns, so that
any consecutive rows are balanced.
"""

from __future__ import annotations

import numpy as np

RUN_LENGTH = 32
"""Rows of a chain that stay together when rows are shuffled."""


def chain_rows(
    a: np.ndarray,
    b: np.ndarray,
    label: np.ndarray,
    rows_per_block: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Orders the rows of each block as chains.

    Where a block's negatives are made of the sides of its positives, each item has as many of one
    label as of the other, and a chain ends only where it began.

    Args:
        a: int64 (num_pairs,), index of the first item; block by block.
        b: int64 (num_pairs,), index of the second item.
        label: int8 (num_pairs,), 0 or 1.
        rows_per_block: int64 (num_blocks,), rows of each block, adding up to num_pairs.
        rng: chooses the label that each block begins with.

    Returns:
        int64 (num_pairs,), the rows in their new order; no row leaves its block.
    """
    ends = np.cumsum(rows_per_block)
    order = [np.empty(0, np.int64)]
    for start, end, phase in zip(
        (ends - rows_per_block).tolist(), ends.tolist(), rng.random(len(ends)), strict=True
    ):
        block = slice(start, end)
        due = _take_turns(int(label[block].sum()), end - start, phase)
        order.append(start + _chain(a[block].tolist(), b[block].tolist(), label[block], due))
    return np.concatenate(order)


def _take_turns(num_positives: int, num_rows: int, phase: float) -> list[int]:
    """Labels for `num_rows` rows, of which `num_positives` are spread evenly."""
    due = np.floor(phase + np.arange(num_rows + 1) * num_positives / max(num_rows, 1))
    return np.diff(due).astype(int).tolist()


def _chain(a: list[int], b: list[int], label: np.ndarray, due: list[int]) -> np.ndarray:
    """The rows of one block in an order in which they have the labels `due`."""
    rows_left = [np.flatnonzero(label == value).tolist() for value in (0, 1)]
    rows_of_item: list[dict[int, list[int]]] = [{}, {}]
    for rows, of_item in zip(rows_left, rows_of_item, strict=True):
        for row in rows:
            of_item.setdefault(a[row], []).append(row)
            of_item.setdefault(b[row], []).append(row)
    is_used = bytearray(len(a))
    order = []
    old = new = -1  # The items of the row before; `new` is the one that came with it.
    for value in due:
        of_item = rows_of_item[value]
        for rows in (of_item.get(new, []), of_item.get(old, []), rows_left[value]):
            while rows and is_used[rows[-1]]:
                rows.pop()
            if rows:
                break
        row = rows.pop()
        is_used[row] = 1
        order.append(row)
        shared = old if old in (a[row], b[row]) and new not in (a[row], b[row]) else new
        old, new = (b[row], a[row]) if b[row] == shared else (a[row], b[row])
    return np.array(order, np.int64)
