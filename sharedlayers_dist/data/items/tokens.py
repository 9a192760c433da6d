"""Ids of tokens: lists of integers, from any tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sharedlayers_dist.data.items.codec import BadItems, Encoded, as_array, for_input
from sharedlayers_dist.data.items.sequences import (
    End,
    describe_kept,
    fill_rows,
    lists_of_values,
)


@dataclass(frozen=True, kw_only=True)
class TokenCodec:
    """Lists of ids as rows of one length; 0 is padding.

    They are held as a `large_list` array of `int64`.

    Example:
        >>> codec = TokenCodec(length=3, dtype="int32", pad="end")
        >>> held = codec.read(pa.chunked_array([[[7, 8], [1, 2, 3, 4], [-5]]]))
        >>> codec.find_bad(held)
        {2: 'has the id -5, and ids must be from 0 to 2147483647'}
        >>> codec.encode(held[:2]).values.tolist()
        [[7, 8, 0], [2, 3, 4]]
        >>> TokenCodec(length=3, dtype="int32", table_size=8).find_bad(held[:1])
        {0: "has the id 8, and the model's table has 8 rows: ids must be from 0 to 7"}
    """

    length: int
    """Ids of one item."""
    dtype: str
    """NumPy's name of the integers in a batch, which must hold every id."""
    truncate: End = "begin"
    """The end that lists lose which are longer."""
    pad: End = "begin"
    """The end at which shorter ones are padded."""
    table_size: int | None = None
    """Rows of the table in which a model looks the ids up; None where that is not known."""
    model_input: str = field(default="", compare=False, repr=False)
    """The input of a model that they are for, to be told with those that do not fit; or empty."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(length,)`."""
        return (self.length,)

    @property
    def kept(self) -> str:
        """What is kept of a list that is truncated."""
        return describe_kept(self.length, "ids", self.truncate)

    def read(self, column: pa.ChunkedArray) -> pa.Array:
        """Holds lists of any layout, of integers of any width."""
        return as_array(column.cast(pa.large_list(pa.int64()), safe=False))

    def find_bad(self, items: pa.Array, *, thoroughly: bool = False) -> BadItems:
        """Finds the lists with ids that are null, negative, or too large for batch or table."""
        ids = items.flatten()
        largest, rule = int(np.iinfo(self.dtype).max), "ids"
        if self.table_size is not None and self.table_size <= largest:
            largest, rule = (
                self.table_size - 1,
                f"the model's table has {self.table_size} rows: ids",
            )
        is_good = pc.and_(pc.greater_equal(ids, 0), pc.less_equal(ids, largest))
        places = np.flatnonzero(~is_good.fill_null(False).to_numpy(zero_copy_only=False))
        lists, first = np.unique(lists_of_values(items)[places], return_index=True)
        return {
            item: f"has the id {ids[place]}, and {rule} must be from 0 to {largest}"
            f"{for_input(self.model_input)}"
            for item, place in zip(lists.tolist(), places[first].tolist(), strict=True)
        }

    def blanks(self, num_items: int) -> pa.Array:
        """Empty lists."""
        return pa.nulls(num_items, pa.large_list(pa.int64()))

    def encode(self, items: pa.Array) -> Encoded:
        """The ids as rows."""
        rows = np.zeros((len(items), self.length), self.dtype)
        lengths = items.value_lengths().fill_null(0).to_numpy().astype(np.int64)
        ids = items.flatten().to_numpy(zero_copy_only=False)
        num_truncated = fill_rows(rows, ids, lengths, truncate=self.truncate, pad=self.pad)
        return Encoded(rows, num_truncated)
