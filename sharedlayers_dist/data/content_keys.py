"""When two items count as the same: texts but for case and spaces, all others byte for byte."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sharedlayers_dist.data.items.column import is_list
from sharedlayers_dist.data.items.tensors import to_numpy

_SPACES = r"[\s\v\x1c-\x1f\x{85}\pZ]+"


def content_keys(items: pa.Array | np.ndarray, *, exact: bool = False) -> np.ndarray:
    """A number for each item's content; items that count as the same have the same.

    Texts count as the same when they differ only in case and in the amount of white space.

    Args:
        items: items as a codec holds them, or as pair datasets store them; without nulls.
        exact: whether texts count as the same only when they are, letter by letter.

    Returns:
        uint64 (n,): 64 bits of BLAKE2b, so two of a billion different items share one with a
        probability of 3%.
    """
    if isinstance(items, pa.ExtensionArray):
        items = to_numpy(items)
    elif isinstance(items, pa.Array) and is_list(items.type):
        items = items.cast(pa.large_list(items.type.value_type))
    if isinstance(items, np.ndarray):
        contents = [item.tobytes() for item in items]
    elif pa.types.is_large_list(items.type):
        starts = np.cumsum(items.value_lengths().to_numpy())[:-1]
        lists = np.split(items.flatten().to_numpy(), starts)
        contents = [ids.tobytes() for ids in lists[: len(items)]]
    else:
        is_file = pa.types.is_binary(items.type) or pa.types.is_large_binary(items.type)
        if not exact and not is_file:
            # Upper case first: some letters, such as the two small sigmas, share only that.
            items = pc.replace_substring_regex(pc.utf8_lower(pc.utf8_upper(items)), _SPACES, " ")
            items = pc.utf8_trim_whitespace(items)
        contents = items.cast(pa.large_binary()).to_pylist()
    digests = b"".join(blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(digests, np.uint64)
