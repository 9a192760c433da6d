"""Texts: strings, which batches carry as ids of their characters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from sharedlayers_dist.data.items.characters import encode_and_count_truncated, id_type, is_utf8
from sharedlayers_dist.data.items.codec import BadItems, Encoded, as_array, name_bad
from sharedlayers_dist.data.items.sequences import End, describe_kept


@dataclass(frozen=True, kw_only=True)
class TextCodec:
    """Texts as rows of ids: 0 is padding or another character, k the k-th of the alphabet.

    They are held as a `large_string` array.

    Example:
        >>> codec = TextCodec(length=4, alphabet_size=2).with_alphabet("abc")
        >>> held = codec.read(pa.chunked_array([["banana", None]]))
        >>> codec.encode(held).values.tolist()
        [[0, 1, 0, 1], [0, 0, 0, 0]]
    """

    length: int
    """Ids of one text."""
    alphabet_size: int
    """Most characters of the alphabet."""
    alphabet: str = ""
    """The characters with the ids 1, 2, ..., of which a dataset may have fewer."""
    truncate: End = "begin"
    """The end that texts lose which are longer."""
    pad: End = "begin"
    """The end at which shorter ones are padded."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(length,)`."""
        return (self.length,)

    @property
    def dtype(self) -> str:
        """The type of the ids, the same for all alphabets of this size."""
        return id_type(self.alphabet_size)

    @property
    def kept(self) -> str:
        """What is kept of a text that is truncated."""
        return describe_kept(self.length, "characters", self.truncate)

    def with_alphabet(self, alphabet: str) -> TextCodec:
        """The same codec with as many of the characters, from the first on, as it takes."""
        return replace(self, alphabet=alphabet[: self.alphabet_size])

    def read(self, column: pa.ChunkedArray) -> pa.Array:
        """Holds texts in any of Arrow's layouts."""
        return as_array(column.cast(pa.large_string()))

    def find_bad(self, items: pa.Array, *, thoroughly: bool = False) -> BadItems:
        """Finds the texts that are not UTF-8."""
        return name_bad(~is_utf8(items), "is not UTF-8")

    def blanks(self, num_items: int) -> pa.Array:
        """Empty texts."""
        return pa.nulls(num_items, pa.large_string())

    def encode(self, items: pa.Array) -> Encoded:
        """The ids of the texts' characters."""
        ids, num_truncated = encode_and_count_truncated(
            items, self.alphabet, self.length, truncate=self.truncate, pad=self.pad
        )
        return Encoded(ids.astype(self.dtype, copy=False), num_truncated)
