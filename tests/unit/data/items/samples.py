"""Items of every kind as columns of Parquet, and what batches must hold of them."""

import io
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sharedlayers_dist.data import (
    ImageFileCodec,
    ItemCodec,
    TensorCodec,
    TextCodec,
    TokenCodec,
    VectorCodec,
    VectorListCodec,
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A few items of one kind, different from each other."""

    name: str
    codec: ItemCodec
    column: pa.Array
    encoded: NDArray
    """What a batch holds of each item."""
    bad: dict[str, Any] = field(default_factory=dict)
    """By the reason that is told: a value of the column that cannot be used."""

    def table(self, num_rows: int, first: int = 0) -> pa.Table:
        """Pairs of an item and the next one, over and over."""
        places = np.arange(first, first + num_rows)
        a, b = (self.column.take(pa.array((places + shift) % len(self.column))) for shift in (0, 1))
        return pa.table({"a": a, "b": b, "label": pa.array(places % 2, pa.int8())})

    def with_bad_row(self, table: pa.Table, row: int, value: Any) -> pa.Table:
        """The table with another value of `a` in one row."""
        items = table["a"].combine_chunks()
        spoiled = pa.concat_arrays([items[:row], self._one(value), items[row + 1 :]])
        return table.set_column(0, "a", spoiled)

    def _one(self, value: Any) -> pa.Array:
        if isinstance(value, pa.Array):
            return value
        if isinstance(self.column, pa.ExtensionArray):
            storage = pa.array([value], self.column.type.storage_type)
            return pa.ExtensionArray.from_storage(self.column.type, storage)
        return pa.array([value], self.column.type)


def make_file(pixels: NDArray[np.uint8], file_format: str = "PNG", **options: Any) -> bytes:
    """An image of `(height, width, channels)` as a file."""
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, file_format, **options)
    return file.getvalue()


def _pixels(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


GREY = _pixels(5, 4, 3, 1)
COLOURED = _pixels(5, 4, 3, 3)
FILES = [make_file(image) for image in COLOURED]
VECTORS = np.arange(20, dtype=np.float32).reshape(5, 4) / 4
NOT_UTF8 = pa.StringArray.from_buffers(1, *pa.array([b"\xff"], pa.binary()).buffers()[1:])
TEXTS = pa.array(["", "a", "ab", "ba", "abc"])
TEXT = TextCodec(length=3, alphabet_size=2, alphabet="ab")
TOKENS = [[7], [], [1, 2, 3], [5, 6], [9, 9]]

SAMPLES = [
    Sample(
        name="text",
        codec=TEXT,
        column=TEXTS,
        encoded=np.array([[0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 2, 1], [1, 2, 0]], np.uint16),
        bad={"is null": None, "is not UTF-8": NOT_UTF8},
    ),
    Sample(
        name="text-padded-at-the-end",
        codec=replace(TEXT, pad="end"),
        column=TEXTS,
        encoded=np.array([[0, 0, 0], [1, 0, 0], [1, 2, 0], [2, 1, 0], [1, 2, 0]], np.uint16),
    ),
    Sample(
        name="tokens",
        codec=TokenCodec(length=4, dtype="int32"),
        column=pa.array(TOKENS, pa.list_(pa.uint16())),
        encoded=np.array(
            [[0, 0, 0, 7], [0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 5, 6], [0, 0, 9, 9]], np.int32
        ),
        bad={"is null": None, "has the id None, and ids must be from 0 to 2147483647": [1, None]},
    ),
    Sample(
        name="tokens-of-one-length",
        codec=TokenCodec(length=2, dtype="int16", truncate="end"),
        column=pa.array([[n, n + 1, n + 2] for n in range(5)], pa.list_(pa.int64(), 3)),
        encoded=np.array([[n, n + 1] for n in range(5)], np.int16),
        bad={
            "is null": None,
            "has the id -1, and ids must be from 0 to 32767": [3, 2, -1],
            "has the id 32768, and ids must be from 0 to 32767": [3, 32768, -1],
        },
    ),
    Sample(
        name="tokens-for-a-table",
        codec=TokenCodec(length=2, dtype="int32", table_size=10),
        column=pa.array(TOKENS, pa.large_list(pa.int32())),
        encoded=np.array([[0, 7], [0, 0], [2, 3], [5, 6], [9, 9]], np.int32),
        bad={
            "has the id 10, and the model's table has 10 rows: ids must be from 0 to 9": [9, 10],
            "has the id -1, and the model's table has 10 rows: ids must be from 0 to 9": [-1],
        },
    ),
    Sample(
        name="tensors",
        codec=TensorCodec(shape=(4, 3, 1), dtype="uint8"),
        column=pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.uint8(), (4, 3, 1)),
            pa.array(GREY.reshape(5, -1).tolist(), pa.list_(pa.uint8(), 12)),
        ),
        encoded=GREY,
        bad={"is null": None},
    ),
    Sample(
        name="tensors-of-floats",
        codec=TensorCodec(shape=(4,), dtype="float64"),
        column=pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float64(), (4,)),
            pa.array(VECTORS.tolist(), pa.list_(pa.float64(), 4)),
        ),
        encoded=VECTORS.astype(np.float64),
    ),
    Sample(
        name="image-files",
        codec=ImageFileCodec(shape=(4, 3, 3)),
        column=pa.array(FILES, pa.binary()),
        encoded=COLOURED,
        bad={
            "is null": None,
            "is no PNG or JPEG image": b"GIF89a",
            "is an image of 3 x 4 pixels and must be of 4 x 3": make_file(
                COLOURED[0].swapaxes(0, 1)
            ),
            "is a broken image": FILES[0][: len(FILES[0]) // 2],
        },
    ),
    Sample(
        name="image-structs",
        codec=ImageFileCodec(shape=(4, 3, 1)),
        column=pa.array(
            [{"bytes": make_file(image), "path": f"{n}.png"} for n, image in enumerate(GREY)],
            pa.struct({"bytes": pa.large_binary(), "path": pa.string()}),
        ),
        encoded=GREY,
        bad={"is null": None, "holds no file": {"bytes": None, "path": "elsewhere.png"}},
    ),
    *(
        Sample(
            name=f"vectors-of-{dtype}",
            codec=VectorCodec(size=4, dtype=dtype),
            column=pa.array(
                list(VECTORS.astype(dtype)), pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), 4)
            ),
            encoded=VECTORS.astype(dtype),
            bad={
                "is null": None,
                "has numbers that are not finite": np.array([0, 1, np.inf, 0], dtype),
            },
        )
        for dtype in ("float16", "float32", "float64")
    ),
    *(
        Sample(
            name=f"vectors-in-lists-of-{dtype}",
            codec=VectorListCodec(size=4, dtype=dtype),
            column=pa.array(
                list(VECTORS.astype(dtype)), pa.list_(pa.from_numpy_dtype(np.dtype(dtype)))
            ),
            encoded=VECTORS.astype(dtype),
            bad={
                "is null": None,
                "has 3 numbers and must have 4": np.zeros(3, dtype),
                "has 0 numbers and must have 4": [],
                "has numbers that are not finite": np.array([0, 1, np.nan, 0], dtype),
            },
        )
        for dtype in ("float16", "float32", "float64")
    ),
]
BY_NAME = {sample.name: sample for sample in SAMPLES}
