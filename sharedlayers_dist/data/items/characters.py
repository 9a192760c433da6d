"""Texts to character ids, vectorised, straight from Arrow's buffers.

A text is a row of `length` ids: 0 is padding or a character outside the alphabet (a zero row of
the notebook's matrix), k is column k - 1 of the alphabet. A character is a Unicode code point.
Texts stand at the end of the row, as `keras.utils.pad_sequences` puts them by default; of a text
longer than `length` the last `length` characters are kept, unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sharedlayers_dist.data.items.sequences import End, fill_rows

NUM_CODE_POINTS = 0x110000
_CONTINUATION = 0b1000_0000  # The two highest bits of every byte of a character but its first.
_ROWS_AT_ONCE = 1024  # Few enough for the intermediate arrays to stay in the processor's cache.


def encode_text(
    texts: pa.Array | pa.ChunkedArray,
    alphabet: str,
    length: int,
    *,
    truncate: End = "begin",
    pad: End = "begin",
) -> NDArray:
    """Character ids of `texts`, shape `(len(texts), length)`, of the type `id_type(len(alphabet))`.

    Args:
        texts: Strings in any of Arrow's layouts; slices are honoured, a null is an empty text.
        alphabet: The characters with the ids 1, 2, ...
        length: Ids of a row.
        truncate: The end that texts lose which are longer than a row.
        pad: The end at which shorter ones have zeros.

    Raises:
        ValueError: for bytes that are not UTF-8, which Parquet does not rule out.

    Example:
        >>> encode_text(pa.array(["ab!", "banana"]), "ab", length=4).tolist()
        [[0, 1, 2, 0], [0, 1, 0, 1]]
    """
    return encode_and_count_truncated(texts, alphabet, length, truncate=truncate, pad=pad)[0]


def encode_and_count_truncated(
    texts: pa.Array | pa.ChunkedArray,
    alphabet: str,
    length: int,
    *,
    truncate: End = "begin",
    pad: End = "begin",
) -> tuple[NDArray, int]:
    """The ids that `encode_text` gives, and how many texts were truncated."""
    num_truncated = 0
    table = _table_of_ids(alphabet)
    ids = np.zeros((len(texts), length), table.dtype)
    row = 0
    for chunk in _iter_chunks(texts):
        code_points, lengths = decode_text(chunk)
        rows = ids[row : row + lengths.size]
        num_truncated += fill_rows(
            rows, table.take(code_points), lengths, truncate=truncate, pad=pad
        )
        row += lengths.size
    return ids, num_truncated


def id_type(num_ids: int) -> str:
    """NumPy's name of the narrowest numbers that the ids up to `num_ids` are given as."""
    return "uint16" if num_ids < 1 << 16 else "int32"


def decode_text(texts: pa.Array) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Code points of a string array, end to end, and the number of them in each text.

    Returns:
        Code points, shape `(all characters,)`, and lengths, shape `(len(texts),)`.

    Raises:
        ValueError: for bytes that are not UTF-8.
    """
    offsets, data = _buffers(texts)
    utf8 = data[int(offsets[0]) : int(offsets[-1])]
    starts = offsets - offsets[0]
    lengths = np.diff(starts)
    code_points = np.frombuffer(str(utf8, "utf-8").encode("utf-32-le"), np.uint32)
    if code_points.size == len(utf8):  # ASCII: a character is a byte.
        return code_points, lengths
    first_bytes = np.frombuffer(utf8, np.uint8)[starts[:-1][lengths > 0]]
    if (first_bytes & 0b1100_0000 == _CONTINUATION).any():
        raise ValueError("a text begins within a character: the bytes are not UTF-8")
    return code_points, pc.utf8_length(texts).to_numpy().astype(np.int64)


def is_utf8(texts: pa.Array) -> NDArray[np.bool_]:
    """Whether the bytes of each text are UTF-8, shape `(len(texts),)`; a null is."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        return np.array(
            [_is_utf8(encoded) for encoded in texts.cast(pa.large_binary()).to_pylist()]
        )
    return np.ones(len(texts), np.bool_)


def count_characters(texts: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """How often each code point occurs in `texts`, shape `(0x110000,)`."""
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    for chunk in _iter_chunks(texts):
        code_points, _ = decode_text(chunk)
        if code_points.size:
            of_chunk = np.bincount(code_points)
            counts[: of_chunk.size] += of_chunk
    return counts


def _is_utf8(encoded: bytes | None) -> bool:
    try:
        str(encoded or b"", "utf-8")
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=8)
def _table_of_ids(alphabet: str) -> NDArray:
    """Id of every code point, shape `(0x110000,)`."""
    table = np.zeros(NUM_CODE_POINTS, id_type(len(alphabet)))
    table[[ord(character) for character in alphabet]] = np.arange(1, len(alphabet) + 1)
    return table


def _iter_chunks(texts: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
    """The texts as short `string` or `large_string` arrays without nulls."""
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        texts = texts.cast(pa.large_string())  # Views and dictionaries.
    if texts.null_count:
        texts = texts.fill_null("")
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        for start in range(0, len(chunk), _ROWS_AT_ONCE):
            yield chunk.slice(start, _ROWS_AT_ONCE)


def _buffers(texts: pa.Array) -> tuple[NDArray[np.int64], memoryview]:
    """Byte offsets, shape `(len(texts) + 1,)`, and the bytes they point into."""
    _, offsets, data = texts.buffers()
    dtype = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    if offsets is None or offsets.size == 0:  # Arrow's empty array may have no offsets.
        return np.zeros(len(texts) + 1, np.int64), memoryview(b"")
    bounds = np.frombuffer(offsets, dtype)[texts.offset : texts.offset + len(texts) + 1]
    return bounds.astype(np.int64), memoryview(data if data is not None else b"")
