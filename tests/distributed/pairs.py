"""Small pair datasets, written as any other program would write them: no metadata of ours."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [
    "home",
    "rain",
    "tea",
    "ok",
    "yes",
    "late",
    "train",
    "sleep",
    "cat",
    "why",
    "never",
    "again",
    "soon",
    "the",
    "a",
    "and",
]


def write_text_pairs(
    folder: Path, num_pairs: int, *, seed: int = 0, row_group_size: int = 7
) -> Path:
    """Texts of two authors, one of whom shouts; the label says whether both sides are alike."""
    rng = np.random.default_rng(seed)
    shouts = rng.integers(0, 2, (num_pairs, 2)).astype(bool)

    def write(shouting: bool) -> str:
        text = " ".join(rng.choice(WORDS, rng.integers(2, 9)))
        return f"{text.upper()}!" if shouting else f"{text}."

    folder.mkdir(parents=True)
    table = pa.table(
        {
            "a": [write(shout) for shout in shouts[:, 0]],
            "b": [write(shout) for shout in shouts[:, 1]],
            "label": (shouts[:, 0] == shouts[:, 1]).astype(np.int64),
        }
    )
    half = num_pairs // 2
    pq.write_table(table[:half], folder / "one.parquet", row_group_size=7)
    pq.write_table(table[half:], folder / "two.parquet", row_group_size=7)
    return folder
