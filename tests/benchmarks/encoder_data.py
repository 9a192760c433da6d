"""Texts and images for the benchmark of the encoders: items to train on, pairs of unseen ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from sharedlayers_dist.config import PairsConfig
from sharedlayers_dist.data import encode_text
from sharedlayers_dist.data.making.items import FileItems
from sharedlayers_dist.data.making.make_pairs import make_pairs
from sharedlayers_dist.data.making.summary import PairsSummary

sys.path.append(str(Path(__file__).parents[2] / "datasets"))
from digits import DigitsConfig, make_digits
from tweets import write_tweets

SHARE_OF_TEST = 0.2


class Pairs(NamedTuple):
    """Pairs of items, as places in them."""

    items: NDArray
    """Character ids `(items, 280)`, or 8-bit images `(items, H, W, 1)`."""
    group: NDArray[np.int64]
    """Number of each item's group, from 0, shape `(items,)`."""
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    label: NDArray[np.float32]
    context: NDArray[np.int64] | None = None
    """Number of what else is known of each item, shape `(items,)`."""


class Task(NamedTuple):
    """What an encoder is trained on, and judged by."""

    training: Pairs
    """Its items are all there are to train on; more than its pairs use."""
    validation: Pairs
    test: Pairs
    texts: tuple[list[str], list[str]] | None = None
    """Those of the training and the test items."""


def load_texts(items: Path, folder: Path, *, group: str, context: str) -> Task:
    """Texts with their authors: the sets that `sharedlayers pairs` makes share no author.

    Args:
        items: The file of texts, with a column `text`.
        folder: Where to write the pairs.
        group: The column of the authors.
        context: Another column, to be told apart by; empty for none.
    """
    config = PairsConfig(
        items=str(items), text="text", group=group, num_pairs=60_000, seed=1, output=str(folder)
    )
    print(make_pairs(config))
    author_of = dict(iter_items(items, group))
    context_of = dict(iter_items(items, context)) if context else {}
    tables = {name: pq.read_table(folder / name) for name in ("train", "validation", "test")}
    alphabet = json.loads(tables["train"].schema.metadata[b"sharedlayers"])["alphabet"]
    authors = {*tables["train"]["group_a"].to_pylist(), *tables["train"]["group_b"].to_pylist()}
    of_set = {name: texts_of(table) for name, table in tables.items()}
    held_out = {*of_set["validation"], *of_set["test"]}
    further = [x for x, author in author_of.items() if author in authors and x not in held_out]
    of_set["train"] = list(dict.fromkeys([*of_set["train"], *further]))

    def number(texts: list[str], value_of: dict[str, str]) -> NDArray[np.int64]:
        return np.unique([value_of[text] for text in texts], return_inverse=True)[1]

    def pairs_of(name: str) -> Pairs:
        texts = of_set[name]
        place = {text: i for i, text in enumerate(texts)}
        return Pairs(
            items=encode_text(pa.array(texts), alphabet, 280),
            group=number(texts, author_of),
            a=np.array([place[text] for text in tables[name]["a"].to_pylist()]),
            b=np.array([place[text] for text in tables[name]["b"].to_pylist()]),
            label=tables[name]["label"].to_numpy().astype(np.float32),
            context=number(texts, context_of) if context else None,
        )

    training, validation, test = map(pairs_of, tables)
    return Task(training, validation, test, (of_set["train"], of_set["test"]))


def texts_of(table: pa.Table) -> list[str]:
    """The different texts of a table of pairs."""
    return list(dict.fromkeys(table["a"].to_pylist() + table["b"].to_pylist()))


def iter_items(path: Path, column: str) -> Iterator[tuple[str, str]]:
    """Each text, and what the column says of it."""
    for batch in FileItems(str(path), column="text", group=column).iter_batches():
        yield from zip(batch.items.to_pylist(), batch.groups.to_pylist(), strict=True)


def write_synthetic_texts(path: Path) -> None:
    """Texts by synthetic authors, where there is no file of real ones."""
    source = write_tweets(20_000, 1_000, seed=0)
    pq.write_table(pa.table({"text": source.items, "author": source.groups}), path)


def write_digit_pairs(folder: Path) -> PairsSummary:
    """Sets of pairs of scikit-learn's digits that share no image."""
    return make_digits(DigitsConfig(num_pairs=20_000, test_share=0.2, output=str(folder)))


def load_digits_8x8() -> Task:
    """scikit-learn's 1,797 handwritten digits, as they are."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return split_images(pixels, digits.target, source=np.arange(len(pixels)))


def load_digits_28x28(num_images: int = 8_000) -> Task:
    """The same digits drawn larger, each several times: turned, sheared, shifted, scaled."""
    digits = load_digits()
    rng = np.random.default_rng(0)
    source = np.arange(num_images) % len(digits.images)
    drawn = [draw(digits.images[i], rng) for i in source]
    return split_images(np.stack(drawn), digits.target[source], source=source)


def draw(image: NDArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One image of 8x8 values up to 16, drawn at random into 28x28 pixels: `(28, 28, 1)`."""
    turn, shear = rng.uniform(-0.2, 0.2, 2)
    scale = rng.uniform(0.32, 0.42)  # Pixels of the source for one that is drawn.
    to_source = scale * np.array(
        [[np.cos(turn), shear - np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    )
    offset = 3.5 - to_source @ (13.5 + rng.uniform(-2, 2, 2))
    coefficients = np.column_stack([to_source, offset]).ravel().tolist()
    drawn = Image.fromarray(image.astype(np.float32)).transform(
        (28, 28), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(drawn) * (255 / 16), 0, 255).astype(np.uint8)[..., None]


def load_images(path: Path) -> Task:
    """Images from a NumPy file: `images`, uint8 (N, H, W), and `labels`, (N,)."""
    stored = np.load(path)
    return split_images(
        stored["images"][..., None], stored["labels"], np.arange(len(stored["labels"]))
    )


def split_images(images: NDArray, digit: NDArray, source: NDArray) -> Task:
    """Splits by source, so that no drawing of a training digit is among the others."""
    order = np.random.default_rng(1).permutation(source.max() + 1)
    num_held_out = round(SHARE_OF_TEST * order.size)
    sets = np.split(order, [num_held_out // 2, num_held_out])

    def pairs_of(sources: NDArray) -> Pairs:
        own = np.isin(source, sources)
        a, b, label = draw_pairs(digit[own], source[own], 10_000)
        return Pairs(images[own], digit[own], a, b, label)

    validation, test, training = map(pairs_of, sets)
    return Task(training, validation, test)


def draw_pairs(group: NDArray, source: NDArray, count: int) -> tuple[NDArray, NDArray, NDArray]:
    """As many pairs of one group as of two, drawn at random, none of one source."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, len(group), (2, 40 * count))
    a, b = a[source[a] != source[b]], b[source[a] != source[b]]
    same = group[a] == group[b]
    chosen = np.concatenate(
        [np.flatnonzero(same)[: count // 2], np.flatnonzero(~same)[: count // 2]]
    )
    return a[chosen], b[chosen], same[chosen].astype(np.float32)
