"""The alphabet: the most frequent characters of a training set, in the same order everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from sharedlayers_dist.data.damage import DamageError, OnBadRow, OpenFile, read_file
from sharedlayers_dist.data.files import open_to_go_through, read_parquet_metadata
from sharedlayers_dist.data.index import DatasetIndex, IndexedFile
from sharedlayers_dist.data.items.characters import NUM_CODE_POINTS, count_characters, is_utf8
from sharedlayers_dist.data.mixture import DatasetMixture
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.bounded_reads import ReadPool, wait_for_read
from sharedlayers_dist.storage.uri import hide_secrets, open_filesystem

ALPHABET_SIZE: Final = 256
"""Characters of an alphabet unless told otherwise: the columns of a tweet's binary matrix."""
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
    return _choose_most_frequent(counts, size)


def _choose_most_frequent(counts: NDArray[np.int64], size: int) -> str:
    used = np.flatnonzero(counts)
    by_frequency = used[np.argsort(-counts[used], kind="stable")]
    return "".join(map(chr, by_frequency[:size].tolist()))


def resolve_alphabet(
    index: DatasetIndex | DatasetMixture,
    size: int = ALPHABET_SIZE,
    *,
    on_bad_row: OnBadRow = "error",
) -> str:
    """The alphabet stored with a text dataset, or else the one its columns of texts make.

    Of a mixture it is that of the first dataset; where that has none stored, all are counted.

    Of a stored alphabet the first `size` characters are taken. Where fewer are stored than that,
    these are all there are, or (if there are 256 or more) all that its maker asked for; then the
    texts are counted again.

    Where they are counted the whole dataset is read: call it on one rank, and tell the others.

    Args:
        index: The dataset, or several.
        size: Most characters of the alphabet.
        on_bad_row: `skip` leaves out a row group that is corrupt, which the reader then names and
            counts. Other bad rows have no part in the alphabet either way.

    Raises:
        UserError: where neither side is text, or for a row group that is corrupt and not skipped.
        StorageError: where the storage fails.
        ReadTimeoutError: for rows that do not come.
    """
    columns = [side for side in "ab" if getattr(index, side).kind == "text"]
    if not columns:
        raise UserError(
            f"Only text has an alphabet. Received: {hide_secrets(index.uri)}, "
            f"whose items are {index.a}."
        )
    stored = index.metadata.alphabet if index.metadata is not None else None
    if stored is not None and (len(stored) >= size or len(stored) < ALPHABET_SIZE):
        return stored[:size]
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    with ReadPool(1, name="sharedlayers-alphabet") as pool:
        for part in index.parts:
            filesystem, _ = open_filesystem(part.uri)
            for file in part.files:
                for of_group in _count_row_groups(
                    filesystem, file, columns, pool, on_bad_row=on_bad_row
                ):
                    counts += of_group
    return _choose_most_frequent(counts, size)


def _count_row_groups(
    filesystem: fs.FileSystem,
    file: IndexedFile,
    columns: Sequence[str],
    pool: ReadPool,
    *,
    on_bad_row: OnBadRow,
) -> Iterator[NDArray[np.int64]]:
    """How often each code point occurs in each row group that is whole, shape `(0x110000,)`."""
    footer: pq.FileMetaData | None = None
    for row_group in np.flatnonzero(file.row_counts).tolist():
        place = f"{file.path}, row group {row_group}"
        try:
            if footer is None:
                read = partial(
                    read_file, filesystem, file.path, read_parquet_metadata, place=file.path
                )
                footer = wait_for_read(pool.submit(read), what=file.path)
            count = partial(_count_row_group, footer, row_group, columns, pool, place)
            yield read_file(filesystem, file.path, count, place=place)
        except DamageError as e:
            if on_bad_row == "error":
                raise UserError(
                    f"{place}: it cannot be read: {e}. Write the file anew, or leave out what is "
                    "damaged with --on-bad-row skip."
                ) from e


def _count_row_group(
    footer: pq.FileMetaData,
    row_group: int,
    columns: Sequence[str],
    pool: ReadPool,
    place: str,
    open_file: OpenFile,
) -> NDArray[np.int64]:
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    texts = _iter_texts(open_file, footer, row_group, columns)
    while (read := wait_for_read(pool.submit(next, texts, None), what=place)) is not None:
        counts += count_characters(read)
    return counts


def _iter_texts(
    open_file: OpenFile, footer: pq.FileMetaData, row_group: int, columns: Sequence[str]
) -> Iterator[pa.Array]:
    with open_file() as file:
        batches = open_to_go_through(file, footer).iter_batches(
            _ROWS_AT_ONCE, row_groups=[row_group], columns=columns
        )
        for batch in batches:
            for column in batch.columns:
                texts = column.cast(pa.large_string())
                # Others are bad rows, which the reader names or skips.
                yield texts.filter(pa.array(is_utf8(texts)))
