"""Small pair datasets of the kinds of items that the examples in docs/examples take."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def write_token_pairs(folder: Path, num_pairs: int, *, seed: int = 0) -> Path:
    """Lists of up to 40 token ids of two vocabularies; the label says whether both are alike."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, (num_pairs, 2))

    def draw(kind: int) -> list[int]:
        return (1 + 100 * kind + rng.integers(0, 100, rng.integers(1, 40))).tolist()

    return _write(folder, kinds, draw, pa.list_(pa.int32()))


def write_png_pairs(folder: Path, num_pairs: int, *, seed: int = 0) -> Path:
    """PNG files of 16 x 16 grey pixels, bright or dark; the label says whether both are alike."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, (num_pairs, 2))

    def draw(kind: int) -> bytes:
        pixels = rng.integers(0, 128, (16, 16)) + 128 * kind
        file = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
        return file.getvalue()

    return _write(folder, kinds, draw, pa.binary())


def _write(folder, kinds, draw, item) -> Path:
    folder.mkdir(parents=True)
    sides = {
        name: pa.array([draw(kind) for kind in kinds[:, column]], item)
        for column, name in enumerate("ab")
    }
    label = pa.array((kinds[:, 0] == kinds[:, 1]).astype(np.int8))
    pq.write_table(pa.table({**sides, "label": label}), folder / "all.parquet", row_group_size=7)
    return folder
