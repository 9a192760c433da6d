"""The alphabet: the most frequent characters of a training set, in the same order everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np
import pyarrow as pa

from sharedlayers_dist.data.files import open_to_go_through
from sharedlayers_dist.data.index import DatasetIndex
from sharedlayers_dist.data.mixture import DatasetMixture
from sharedlayers_dist.data.schema import ALPHABET_SIZE
from sharedlayers_dist.data.text import NUM_CODE_POINTS, count_characters, is_utf8
from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.uri import hide_secrets, open_filesystem

_ROWS_AT_ONCE = 65_536


def make_alphabet(texts: Iterable[pa.Array | pa.ChunkedArray], size: int = ALPHABET_SIZE) -> str:
    """The `size` most frequent code points of `texts`, the most frequent first.

    Of equally frequent ones the smaller code point comes first, so that the alphabet depends on
    neither the order of the texts nor the machine. Shorter where the texts have fewer characters.

    Args:
        texts: Arrays of strings, of the training set alone; read once, one after the other.
        size: Most characters of the alphabet.

    Example:
        >>> make_alphabet([pa.array(["banana", "no"])])
        'anbo'
    """
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    for array in texts:
        counts += count_characters(array)
    used = np.flatnonzero(counts)
    by_frequency = used[np.argsort(-counts[used], kind="stable")]
    return "".join(map(chr, by_frequency[:size].tolist()))


def resolve_alphabet(index: DatasetIndex | DatasetMixture) -> str:
    """The alphabet stored with a text dataset, or else the one its columns `a` and `b` make.

    Of a mixture it is that of the first dataset; where that has none stored, all are counted.

    Without a stored one the whole dataset is read: call it on one rank, and tell the others.

    Raises:
        UserError: for images, or a file that cannot be read.
    """
    if index.kind != "text":
        raise UserError(
            f"Only text has an alphabet. Received: {hide_secrets(index.uri)}, "
            f"whose items are {index.kind}s."
        )
    if index.metadata is not None and index.metadata.alphabet is not None:
        return index.metadata.alphabet
    return make_alphabet(chain.from_iterable(map(_iter_texts, index.parts)))


def _iter_texts(index: DatasetIndex) -> Iterable[pa.Array]:
    filesystem, _ = open_filesystem(index.uri)
    for file in index.files:
        if not any(file.row_counts):
            continue
        try:
            with open_to_go_through(filesystem, file.path) as parquet:
                for batch in parquet.iter_batches(_ROWS_AT_ONCE, columns=["a", "b"]):
                    for column in batch.columns:
                        texts = column.cast(pa.large_string())
                        # Others are bad rows, which the reader names or skips.
                        yield texts.filter(pa.array(is_utf8(texts)))
        except (pa.ArrowException, OSError) as e:
            raise UserError(f"{file.path} cannot be read: {one_line(e)}") from e
