"""Which codec a column needs for what a model takes."""

import pyarrow as pa
import pytest

from sharedlayers_dist.data import (
    ImageFileCodec,
    ItemColumn,
    ModelInput,
    SequenceOptions,
    TensorCodec,
    TextCodec,
    TokenCodec,
    VectorCodec,
    VectorListCodec,
    choose_codec,
    choose_codecs,
)
from sharedlayers_dist.data.items.choosing import alphabet_size_of, choose_plain_codec
from sharedlayers_dist.errors import UserError
from tests.unit.data.items.samples import COLOURED, make_file

TEXT = ItemColumn(kind="text", dtype="str")
TOKENS = ItemColumn(kind="tokens", dtype="int")
LISTS = ItemColumn(kind="vector", dtype="float64")
FILES = ItemColumn(kind="image", dtype="bytes")
OPTIONS = SequenceOptions(truncate="end", pad="end", alphabet_size=300)


def image(*shape, dtype="uint8"):
    return ItemColumn(kind="image", shape=shape, dtype=dtype)


def vector(size, dtype):
    return ItemColumn(kind="vector", shape=(size,), dtype=dtype)


def text(**options):
    return TextCodec(**options, truncate="end", pad="end")


@pytest.mark.parametrize(
    ("column", "shape", "dtype", "codec"),
    [
        (TEXT, (280, 256), "float32", text(length=280, alphabet_size=256)),
        (TEXT, (7, 70_000), "float16", text(length=7, alphabet_size=70_000)),
        (TEXT, (64,), "int32", text(length=64, alphabet_size=300)),
        (TOKENS, (64,), "int32", TokenCodec(length=64, dtype="int32", truncate="end", pad="end")),
        (TOKENS, (9,), "uint16", TokenCodec(length=9, dtype="uint16", truncate="end", pad="end")),
        (image(27, 27, 1), (27, 27, 1), "float32", TensorCodec(shape=(27, 27, 1), dtype="uint8")),
        (image(9, 8, 5), (None, None, 5), "float32", TensorCodec(shape=(9, 8, 5), dtype="uint8")),
        (
            image(9, 8, 2, dtype="int16"),
            (9, 8, 2),
            "float32",
            TensorCodec(shape=(9, 8, 2), dtype="int16"),
        ),
        (image(4, dtype="float64"), (4,), "float32", TensorCodec(shape=(4,), dtype="float64")),
        (image(4, dtype="int8"), (4,), "int32", TensorCodec(shape=(4,), dtype="int8")),
        (FILES, (224, 200, 3), "float32", ImageFileCodec(shape=(224, 200, 3))),
        (FILES, (28, 28, 1), "uint8", ImageFileCodec(shape=(28, 28, 1))),
        (vector(5, "float16"), (5,), "float32", VectorCodec(size=5, dtype="float16")),
        (vector(5, "float32"), (None,), "float32", VectorCodec(size=5, dtype="float32")),
        (vector(5, "float64"), (5,), "float32", VectorCodec(size=5, dtype="float32")),
        (vector(5, "float64"), (5,), "float64", VectorCodec(size=5, dtype="float64")),
        (LISTS, (5,), "float32", VectorListCodec(size=5, dtype="float32")),
    ],
    ids=str,
)
def test_the_codec_follows_from_the_column_and_the_input(column, shape, dtype, codec):
    assert choose_codec(column, ModelInput("a", shape, dtype), OPTIONS) == codec


@pytest.mark.parametrize(
    ("column", "shape", "dtype"),
    [
        (TEXT, (27, 27, 1), "float32"),
        (TEXT, (280,), "float32"),
        (TEXT, (None, 256), "float32"),
        (TEXT, (None,), "int32"),
        (TEXT, (280,), "uint8"),  # It does not hold ids up to 300.
        (TEXT, (280, 256), "int32"),
        (TOKENS, (64,), "float32"),
        (TOKENS, (64, 8), "int32"),
        (TOKENS, (None,), "int32"),
        (image(27, 27, 1), (28, 28, 1), "float32"),
        (image(27, 27, 1), (280, 256), "float32"),
        (image(27, 27, 1, dtype="float32"), (27, 27, 1), "int32"),
        (image(27, 27), (27, 27), "float32"),  # Integers that would be taken for ids.
        (FILES, (None, None, 3), "float32"),
        (FILES, (28, 28, 2), "float32"),
        (FILES, (28, 28), "float32"),
        (vector(5, "float32"), (6,), "float32"),
        (vector(5, "float32"), (5,), "int32"),
        (vector(5, "float32"), (5, 1), "float32"),
        (LISTS, (None,), "float32"),
        (LISTS, (5,), "int32"),
    ],
    ids=str,
)
def test_items_that_a_model_cannot_take_are_refused_with_both_sides(column, shape, dtype):
    with pytest.raises(UserError) as refused:
        choose_codec(column, ModelInput("b", shape, dtype), OPTIONS, where="column 'b' of x")
    told = str(refused.value)
    assert f"column 'b' of x, which holds {column}, " in told
    assert f"and a model, whose input 'b' is {dtype} of the shape {shape}." in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("column", "taken", "misfit", "told"),
    [
        (
            FILES,
            ModelInput("a", (4, 3, 3), "float32"),
            pa.array([make_file(COLOURED[0].swapaxes(0, 1))], pa.binary()),
            "is an image of 3 x 4 pixels and must be of 4 x 3",
        ),
        (
            LISTS,
            ModelInput("a", (4,), "float32"),
            pa.array([[0.5, 1.0, 2.0]]),
            "has 3 numbers and must have 4",
        ),
        (
            TOKENS,
            ModelInput("a", (4,), "int32", table_size=9),
            pa.array([[1, 9]]),
            "has the id 9, and the model's table has 9 rows: ids must be from 0 to 8",
        ),
    ],
    ids=["image files", "lists of floats", "tokens"],
)
def test_an_item_that_does_not_fit_is_told_with_the_input(column, taken, misfit, told):
    codec = choose_codec(column, taken)
    bad = codec.find_bad(codec.read(pa.chunked_array([misfit])))
    assert bad == {
        0: f"{told} for a model, whose input 'a' is {taken.dtype} of the shape {taken.shape}"
    }


def test_ids_are_checked_against_the_table_that_the_model_has():
    taken = ModelInput("a", (64,), "int32", table_size=100)
    assert choose_codec(TOKENS, taken) == TokenCodec(length=64, dtype="int32", table_size=100)


def test_each_side_takes_as_much_of_the_alphabet_as_it_can():
    class Pairs:
        a, b = TEXT, TEXT

    taken = {"a": ModelInput("a", (9, 2), "float32"), "b": ModelInput("b", (9,), "int32")}
    codecs = choose_codecs(Pairs(), taken, OPTIONS, alphabet="abc")
    assert alphabet_size_of(codecs) == 300
    assert codecs == (
        text(length=9, alphabet_size=2, alphabet="ab"),
        text(length=9, alphabet_size=300, alphabet="abc"),
    )


@pytest.mark.parametrize(
    "item",
    [
        pa.string(),
        pa.list_(pa.int8()),
        pa.fixed_shape_tensor(pa.uint8(), (2, 2)),
        pa.binary(),
        pa.list_(pa.float16(), 3),
        pa.list_(pa.float64()),
    ],
    ids=str,
)
def test_without_a_model_items_are_read_as_their_column_says(item):
    column = ItemColumn.of(item)
    assert column is not None
    codec = choose_plain_codec(column)
    held = codec.read(pa.chunked_array([pa.nulls(2, item)]))
    assert len(held) == len(codec.blanks(2)) == 2


def test_a_table_has_a_row_for_each_character_and_the_padding():
    column = ItemColumn(kind="text", dtype="str")
    for size in (40, 41):
        choose_codec(
            column,
            ModelInput("a", (9,), "int32", table_size=size),
            SequenceOptions(alphabet_size=size - 1),
        )
        with pytest.raises(
            UserError, match=rf"alphabet_size={size}, and .* Set alphabet_size={size - 1}"
        ):
            choose_codec(
                column,
                ModelInput("a", (9,), "int32", table_size=size),
                SequenceOptions(alphabet_size=size),
            )
