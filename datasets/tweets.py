"""Makes a tweet-pair dataset: from anyone's tweets, or of synthetic authors when none are given.

python datasets/tweets.py --output data/tweets
python datasets/tweets.py --output data/tweets --items tweets.csv --text text --group author
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from random import Random
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import script
from cyclopts import App, Parameter
from synthetic_authors import draw_habits, write_text

from sharedlayers_dist.config import MakingConfig, PairsConfig
from sharedlayers_dist.data.making.items import ArrayItems
from sharedlayers_dist.data.making.make_pairs import make_pairs, make_pairs_of
from sharedlayers_dist.data.making.summary import PairsSummary
from sharedlayers_dist.options import at_least, require

_NUM_PAIRS = 20_000
_TEXTS_PER_AUTHOR = 20
_ZIPF_EXPONENT = 0.9
_ZIPF_OFFSET = 10


@dataclass(frozen=True, kw_only=True)
class TweetsConfig(MakingConfig):
    """A tweet-pair dataset whose training, validation and test set share no author."""

    items: str = ""
    """CSV, JSON lines or Parquet file of tweets; without it, synthetic authors write them."""
    text: str = ""
    """Column of `items` with the texts."""
    group: str = ""
    """Column of `items` with the authors."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row of `items` without text or author: stop, or leave it out."""
    num_texts: Annotated[int | None, at_least(1)] = None
    """Texts of the synthetic authors; by default as many as pairs, and those are 20,000."""
    num_authors: Annotated[int | None, at_least(1)] = None
    """Synthetic authors; by default one for 20 texts."""

    def _check_rules(self) -> None:
        require(
            not self.items or (self.num_texts is None and self.num_authors is None),
            "Either read tweets or have them written.",
            items=self.items,
            num_texts=self.num_texts,
            num_authors=self.num_authors,
        )
        require(
            bool(self.items) or not (self.text or self.group),
            "Columns need a file.",
            text=self.text,
            group=self.group,
            items=self.items,
        )
        require(
            not self.items or bool(self.text and self.group),
            "Give the columns `text` and `group` of `items`.",
            text=self.text,
            group=self.group,
            items=self.items,
        )


def make_tweets(config: TweetsConfig, *, progress: bool = False) -> PairsSummary:
    """Makes the dataset that `config` describes."""
    if config.items:
        shared = {name: getattr(config, name) for name in MakingConfig.__dataclass_fields__}
        given = PairsConfig(
            **shared,
            items=config.items,
            text=config.text,
            group=config.group,
            on_bad_row=config.on_bad_row,
        )
        return make_pairs(given, progress=progress)
    num_pairs = config.num_pairs or _NUM_PAIRS
    num_texts = config.num_texts or num_pairs
    num_authors = config.num_authors or max(30, num_texts // _TEXTS_PER_AUTHOR)
    made_by = {
        "command": "datasets/tweets.py",
        "items": "synthetic authors",
        "num_texts": num_texts,
        "num_authors": num_authors,
    }
    source = write_tweets(num_texts, num_authors, config.seed)
    config = replace(config, num_pairs=num_pairs)
    return make_pairs_of(source, config, made_by=made_by, progress=progress)


def write_tweets(num_texts: int, num_authors: int, seed: int) -> ArrayItems:
    """Texts of synthetic authors, in order of author; the same for the same arguments."""
    texts: list[str] = []
    activity = draw_activity(num_texts, num_authors)
    for author, num_own in enumerate(activity.tolist()):
        rng = Random(f"{seed}/{author}")
        habits = draw_habits(rng)
        texts += (write_text(habits, rng) for _ in range(num_own))
    names = [f"author-{author:06d}" for author in range(num_authors)]
    authors = pa.array(names).take(pa.array(np.repeat(np.arange(num_authors), activity)))
    return ArrayItems(pa.array(texts, pa.string()), authors)


def draw_activity(num_texts: int, num_authors: int) -> np.ndarray:
    """Texts of each author (num_authors,), the busiest first: Zipf's law, flattened at the top."""
    weights = 1 / (np.arange(num_authors) + 1 + _ZIPF_OFFSET) ** _ZIPF_EXPONENT
    return np.diff(np.rint(np.cumsum([0, *weights]) / weights.sum() * num_texts).astype(np.int64))


app = App(name="tweets.py", help=__doc__, default_parameter=Parameter(negative=()))


@app.default
def main(*, config: Annotated[TweetsConfig, Parameter(name="*")]) -> None:
    """Makes a tweet-pair dataset: from anyone's tweets, or of synthetic authors."""
    print(make_tweets(config, progress=sys.stderr.isatty()))


if __name__ == "__main__":
    script.run(app)
