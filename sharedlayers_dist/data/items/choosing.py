"""Which codec a column of items needs for what a model takes: pure functions of plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sharedlayers_dist.data.items.codec import ItemCodec, PairCodecs
from sharedlayers_dist.data.items.column import ItemColumn, Kind, Sides
from sharedlayers_dist.data.items.image_files import MODE_OF_CHANNELS, ImageFileCodec
from sharedlayers_dist.data.items.sequences import End
from sharedlayers_dist.data.items.tensors import TensorCodec
from sharedlayers_dist.data.items.texts import TextCodec
from sharedlayers_dist.data.items.tokens import TokenCodec
from sharedlayers_dist.data.items.vectors import VectorCodec, VectorListCodec
from sharedlayers_dist.errors import UserError

_WANTED: dict[Kind, str] = {
    "text": "Text fits floats of the shape (length, alphabet) or integers of the shape (length,).",
    "tokens": "Ids of tokens fit integers of the shape (length,).",
    "image": "Images fit inputs of their own shape, and files those of 1 or 3 channels: floats of "
    "the shape (height, width, channels), or of any shape the numbers that the column holds.",
    "vector": "Vectors fit floats of the shape (numbers of a vector,).",
}


class ModelInput(NamedTuple):
    """What a model takes for one item."""

    name: str
    shape: tuple[int | None, ...]
    """Shape of one item; None where any size will do."""
    dtype: str
    """Keras's name of its numbers."""
    model: str = "a model"
    """Names the model, for errors."""
    table_size: int | None = None
    """Rows of the table in which the model looks up the integers; None where that is not known."""

    @property
    def is_integer(self) -> bool:
        """Whether it takes integers."""
        return "int" in self.dtype

    def __str__(self) -> str:
        """The input, for people."""
        return f"{self.model}, whose input {self.name!r} is {self.dtype} of the shape {self.shape}"


@dataclass(frozen=True, kw_only=True)
class SequenceOptions:
    """How texts and lists of tokens become rows of one length."""

    truncate: End = "begin"
    """The end that longer ones lose."""
    pad: End = "begin"
    """The end at which shorter ones are padded."""
    alphabet_size: int = 256
    """Most characters of the alphabet for models that take ids; where a model takes matrices, it
    is their number of columns."""


def choose_codec(
    column: ItemColumn,
    taken: ModelInput,
    options: SequenceOptions = SequenceOptions(),
    *,
    where: str = "a column",
) -> ItemCodec:
    """The codec by which the items of a column become what a model takes.

    A `TextCodec` still needs an alphabet, see its `with_alphabet`.

    Args:
        column: What the column holds.
        taken: What the model takes.
        options: Of texts and tokens.
        where: Names the column, for the error.

    Raises:
        UserError: where the model cannot take such items; names both sides.

    Example:
        >>> column = ItemColumn(kind="text", dtype="str")
        >>> choose_codec(column, ModelInput("a", (280, 256), "float32"))
        TextCodec(length=280, alphabet_size=256, alphabet='', truncate='begin', pad='begin')
    """
    choose = {
        "text": _choose_text,
        "tokens": _choose_tokens,
        "image": _choose_image,
        "vector": _choose_vector,
    }[column.kind]
    codec = choose(column, taken, options)
    if codec is None:
        raise UserError(
            f"A model must take the items of its pairs. Received: {where}, which holds {column}, "
            f"and {taken}. {_WANTED[column.kind]}"
        )
    return codec


def choose_codecs(
    sides: Sides,
    taken: Mapping[str, ModelInput],
    options: SequenceOptions = SequenceOptions(),
    *,
    alphabet: str = "",
    where: str = "the pairs",
) -> PairCodecs:
    """The codecs of both sides of a dataset for a model.

    Args:
        sides: What the columns hold.
        taken: What the model takes as `a` and as `b`.
        options: Of texts and tokens.
        alphabet: The characters with the ids 1, 2, ...; each side takes as many as it can.
        where: Names the dataset, for the error.

    Raises:
        UserError: where the model cannot take the items of one side.
    """
    a = choose_codec(sides.a, taken["a"], options, where=f"column 'a' of {where}")
    b = choose_codec(sides.b, taken["b"], options, where=f"column 'b' of {where}")
    return with_alphabet(PairCodecs(a, b), alphabet)


def with_alphabet(codecs: PairCodecs, alphabet: str) -> PairCodecs:
    """The codecs, those of texts with an alphabet."""
    a, b = (
        codec.with_alphabet(alphabet) if isinstance(codec, TextCodec) else codec for codec in codecs
    )
    return PairCodecs(a, b)


def alphabet_size_of(codecs: PairCodecs) -> int:
    """Most characters that either side takes of an alphabet; 0 where none is text."""
    return max(codec.alphabet_size if isinstance(codec, TextCodec) else 0 for codec in codecs)


def choose_plain_codec(column: ItemColumn) -> ItemCodec:
    """A codec to read and check the items of a column with, for no model."""
    if column.kind == "text":
        return TextCodec(length=0, alphabet_size=0)
    if column.kind == "tokens":
        return TokenCodec(length=0, dtype="int64")
    if column.kind == "vector" and not column.shape:
        return VectorListCodec(size=0, dtype=column.dtype)
    if column.kind == "vector":
        return VectorCodec(size=column.shape[0], dtype=column.dtype)
    if column.dtype == "bytes":
        return ImageFileCodec(shape=())
    return TensorCodec(shape=column.shape, dtype=column.dtype)


def _choose_text(
    column: ItemColumn, taken: ModelInput, options: SequenceOptions
) -> TextCodec | None:
    match taken.shape:
        case (int(length), int(size)) if not taken.is_integer:
            pass
        case (int(length),) if taken.is_integer and options.alphabet_size <= _largest(taken):
            size = options.alphabet_size
            _require_rows_for(size, taken)
        case _:
            return None
    return TextCodec(length=length, alphabet_size=size, truncate=options.truncate, pad=options.pad)


def _require_rows_for(alphabet_size: int, taken: ModelInput) -> None:
    """Raises UserError where the model has no row for some of the ids 0 (padding) to the last."""
    if taken.table_size is not None and taken.table_size <= alphabet_size:
        raise UserError(
            "A model's table needs a row for each character and one for the padding. Received: "
            f"alphabet_size={alphabet_size}, and {taken}, with a table of {taken.table_size} rows. "
            f"Set alphabet_size={taken.table_size - 1}, or give the Embedding more rows."
        )


def _choose_tokens(
    column: ItemColumn, taken: ModelInput, options: SequenceOptions
) -> TokenCodec | None:
    match taken.shape:
        case (int(length),) if taken.is_integer:
            return TokenCodec(
                length=length,
                dtype=taken.dtype,
                truncate=options.truncate,
                pad=options.pad,
                table_size=taken.table_size,
                model_input=str(taken),
            )
    return None


def _choose_image(
    column: ItemColumn, taken: ModelInput, options: SequenceOptions
) -> ImageFileCodec | TensorCodec | None:
    if column.dtype == "bytes":
        match taken.shape:
            case (int(height), int(width), int(channels)) if channels in MODE_OF_CHANNELS:
                return ImageFileCodec(shape=(height, width, channels), model_input=str(taken))
        return None
    fits = len(taken.shape) == len(column.shape) and all(
        size in (None, given) for size, given in zip(taken.shape, column.shape, strict=True)
    )
    is_integer = np.dtype(column.dtype).kind in "iub"
    if not fits or (taken.is_integer != is_integer and (taken.is_integer or len(taken.shape) != 3)):
        return None
    return TensorCodec(shape=column.shape, dtype=column.dtype)


def _choose_vector(
    column: ItemColumn, taken: ModelInput, options: SequenceOptions
) -> VectorCodec | VectorListCodec | None:
    if taken.is_integer or len(taken.shape) != 1:
        return None
    (size,) = taken.shape
    # A batch is no wider than what the model makes of it.
    is_wider = column.dtype == "float64" and taken.dtype != "float64"
    dtype = "float32" if is_wider else column.dtype
    if not column.shape:  # How long its lists are is told row by row.
        if size is None:
            return None
        return VectorListCodec(size=size, dtype=dtype, model_input=str(taken))
    return VectorCodec(size=column.shape[0], dtype=dtype) if size in (None, *column.shape) else None


def _largest(taken: ModelInput) -> int:
    return int(np.iinfo(taken.dtype).max)
