"""Which items go to the training, validation and test set: pure functions of plain arrays.

Sets are numbered in the order of their shares, 0 for training; `LEFT_OUT` marks an item that is in
no set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEFT_OUT = -1
_GOLDEN_RATIO = 0.6180339887498949


def split_groups(
    group_sizes: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Gives each group to one set, so that the sets' items come close to `shares`.

    The groups are taken in random order, each by the set that is least full at that time, whatever
    the group's size: so large and small groups are in all sets alike. Only a group that would take
    more than half of a set's share is kept from that set; such groups are given out first. Every
    set gets two groups that have several items as long as there are enough: with fewer it could
    hold no positive or no negative pair.

    Args:
        group_sizes: int (num_groups,), items of each group.
        shares: each set's share of the items; they add up to 1.
        rng: source of the order.

    Returns:
        int8 (num_groups,), the set of each group.
    """
    in_use = [index for index, share in enumerate(shares) if share > 0]
    largest = max(in_use, key=lambda index: shares[index])
    room = [share * int(group_sizes.sum()) / 2 for share in shares]
    order = rng.permutation(len(group_sizes))
    sizes = group_sizes[order]
    rank = np.where(sizes > min(room[index] for index in in_use), 0, np.where(sizes > 1, 1, 2))
    order = order[np.argsort(rank, kind="stable")]
    num_items = [0] * len(shares)
    num_missing = dict.fromkeys(in_use, 2)
    num_several_left = int(np.count_nonzero(group_sizes > 1))
    set_of_group = [0] * len(group_sizes)
    for group, size in zip(order.tolist(), group_sizes[order].tolist(), strict=True):
        allowed = in_use
        if size > 1 and 0 < sum(num_missing.values()) >= num_several_left:
            allowed = [index for index in in_use if num_missing[index]]
        allowed = [index for index in allowed if size <= room[index]] or [
            largest if largest in allowed else allowed[0]
        ]
        chosen = min(allowed, key=lambda index: num_items[index] / shares[index])
        if size > 1:
            num_several_left -= 1
            num_missing[chosen] = max(0, num_missing[chosen] - 1)
        num_items[chosen] += size
        set_of_group[group] = chosen
    return np.array(set_of_group, np.int8)


def split_items(
    group_of_item: np.ndarray, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Gives each item to one set, so that every group is divided as `shares` say.

    The items are put in order of group, at random within a group, and the k-th gets the value
    `(u + k * golden ratio) mod 1`. Any consecutive values are spread evenly over [0, 1), so
    each group is divided within about an item, however small it is.

    Args:
        group_of_item: int (num_items,), index of each item's group.
        shares: each set's share of the items; they need not add up to 1.
        rng: source of the order.

    Returns:
        int8 (num_items,), the set of each item.
    """
    num_items = len(group_of_item)
    order = np.lexsort((rng.random(num_items), group_of_item))
    values = (rng.random() + np.arange(num_items) * _GOLDEN_RATIO) % 1
    upper_edges = np.cumsum(shares) / np.sum(shares)
    set_of_item = np.empty(num_items, np.int8)
    set_of_item[order] = np.searchsorted(upper_edges[:-1], values, side="right")
    return set_of_item


def is_repeated(group_of_item: np.ndarray, key_of_item: np.ndarray) -> np.ndarray:
    """Whether an earlier item of the same group has the same content.

    Args:
        group_of_item: int (num_items,), index of each item's group.
        key_of_item: uint64 (num_items,), equal for items of equal content.

    Returns:
        bool (num_items,).
    """
    order = np.lexsort((key_of_item, group_of_item))  # Stable: the first of its kind stays first.
    repeated = np.zeros(len(order), bool)
    same_group = group_of_item[order[1:]] == group_of_item[order[:-1]]
    same_key = key_of_item[order[1:]] == key_of_item[order[:-1]]
    repeated[order[1:]] = same_group & same_key
    return repeated


def keep_in_first_set(set_of_item: np.ndarray, key_of_item: np.ndarray) -> np.ndarray:
    """Leaves content that several sets have to the first of them.

    Args:
        set_of_item: int8 (num_items,), set of each item, or `LEFT_OUT`.
        key_of_item: uint64 (num_items,), equal for items of equal content.

    Returns:
        int8 (num_items,), `LEFT_OUT` where an earlier set has the content.
    """
    taken = np.flatnonzero(set_of_item != LEFT_OUT)
    order = taken[np.lexsort((set_of_item[taken], key_of_item[taken]))]
    keys = key_of_item[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = keys[1:] != keys[:-1]
    first_set = set_of_item[order][is_first][np.cumsum(is_first) - 1]
    result = set_of_item.copy()
    result[order[set_of_item[order] != first_set]] = LEFT_OUT
    return result
