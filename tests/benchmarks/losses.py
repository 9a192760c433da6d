"""What each loss brings with one encoder: `python -m tests.benchmarks.losses`.

Each row is a run of `sharedlayers_dist.train` with 128 items a step (or 64 listed pairs), AdamW, 5%
warm-up and a cosine to 0. All rows train for as many epochs as fit the same time of a processor
core, which other work on the machine does not change, by the speed of the first steps. Pairs of
unseen groups, and their items, are the test; the intervals are the middle 95% of 500 draws of
groups with replacement. recall@1 is the share of items whose nearest other item is of their group.

`--digits` takes scikit-learn's handwritten digits in place of texts, in batches of all ten groups
times 12 images (or 2, for losses of positive pairs). Ten groups are too few to keep some unseen and
say how far figures are to be trusted, so there the images of the test are unseen, and not the
digits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow.parquet as pq

from sharedlayers_dist import TrainConfig, TrainResult, train
from sharedlayers_dist.config import PairsConfig
from sharedlayers_dist.data import SequenceOptions, choose_codecs, index_dataset, read_items
from sharedlayers_dist.data.making.make_pairs import make_pairs
from sharedlayers_dist.evaluate.scoring import score_pairs
from sharedlayers_dist.evaluate.trained_run import TrainedRun
from sharedlayers_dist.models import EncodingView
from sharedlayers_dist.training.data_sources import inputs_of
from sharedlayers_dist.training.retrieval import estimate, find_queries, measure_queries
from tests.benchmarks.encoder_data import Pairs, write_digit_pairs, write_synthetic_texts
from tests.benchmarks.encoders import auc, interval

PROBE_STEPS = 30


@dataclass(frozen=True, kw_only=True)
class Row:
    """One loss, and what it is trained on."""

    loss: str = ""
    loss_options: dict[str, Any] = field(default_factory=dict)
    groups_per_batch: int = 0
    items_per_group: int = 4
    hard_negatives: int = 0


ROWS = {
    "binary cross-entropy, listed pairs": Row(),
    "binary cross-entropy, all pairs of groups": Row(groups_per_batch=32),
    "binary cross-entropy, groups with hard negatives": Row(groups_per_batch=32, hard_negatives=4),
    "contrastive": Row(loss="contrastive"),
    "cosent": Row(loss="cosent"),
    "triplet, semi-hard": Row(
        loss="triplet", loss_options={"distance": "cosine"}, groups_per_batch=32
    ),
    "supervised contrastive": Row(loss="supervised_contrastive", groups_per_batch=32),
    "multi-similarity": Row(loss="multi_similarity", groups_per_batch=32),
    "in-batch negatives": Row(
        loss="in_batch_negatives",
        loss_options={"temperature": "learned"},
        groups_per_batch=64,
        items_per_group=2,
    ),
    "in-batch negatives, with hard ones": Row(
        loss="in_batch_negatives",
        loss_options={"temperature": "learned"},
        groups_per_batch=64,
        items_per_group=2,
        hard_negatives=4,
    ),
    "sigmoid pairs": Row(loss="sigmoid_pairs", groups_per_batch=64, items_per_group=2),
}


class Probe(keras.callbacks.Callback):
    """Measures the seconds of a step once its graph is built, and ends the run."""

    def __init__(self) -> None:
        super().__init__()
        self._times: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._times.append(time.process_time())
        if len(self._times) == PROBE_STEPS:
            raise KeyboardInterrupt

    @property
    def seconds_of_epoch(self) -> float:
        """Of as many steps as Keras was told of."""
        return float(np.median(np.diff(self._times[3:]))) * self.params["steps"]


def write_pairs(folder: Path, options: argparse.Namespace) -> None:
    """Writes the sets of pairs, of digits or of texts."""
    if options.digits:
        made = write_digit_pairs(folder)
    else:
        texts = options.texts or folder.parent / "texts.parquet"
        if not options.texts:
            write_synthetic_texts(texts)
        config = PairsConfig(
            items=str(texts),
            text="text",
            group=options.group,
            num_pairs=60_000,
            seed=1,
            output=str(folder),
        )
        made = make_pairs(config)
    print(made)


def for_digits(row: Row) -> Row:
    """The same loss, with all ten groups in each batch."""
    if not row.groups_per_batch:
        return row
    items = 12 if row.items_per_group > 2 else 2
    return replace(row, groups_per_batch=10, items_per_group=items)


def configure(row: Row, folder: Path, run: Path, options: argparse.Namespace) -> TrainConfig:
    """The options of a run; those that the number of epochs decides are left."""
    return TrainConfig(
        model=options.model or ("residual_cnn_pair" if options.digits else "character_cnn_pair"),
        pairs=str(folder / "train"),
        validation=str(folder / "validation"),
        output=str(run),
        batch_size=64,
        seed=options.seed,
        optimizer="adamw",
        optimizer_options={"weight_decay": 0.01},
        learning_rate=options.learning_rate,
        clip_norm=1.0,
        schedule="cosine",
        loss=row.loss,
        loss_options=row.loss_options,
        groups_per_batch=row.groups_per_batch,
        items_per_group=row.items_per_group,
        hard_negatives=row.hard_negatives,
    )


def train_for(config: TrainConfig, minutes: float) -> tuple[TrainResult, float]:
    """Trains for about so long; returns what came out, and the seconds of one core it took."""
    probe = Probe()
    keras.backend.clear_session()
    with suppress(KeyboardInterrupt):
        train(replace(config, output=f"{config.output}-probe"), [probe])
    epochs = max(1, round(60 * minutes / probe.seconds_of_epoch))
    warmup = max(1, epochs * probe.params["steps"] // 20)
    keras.backend.clear_session()
    began = time.process_time()
    result = train(replace(config, epochs=epochs, warmup_steps=warmup))
    return result, time.process_time() - began


def auc_of(trained: TrainedRun, pairs: str) -> str:
    """The area under the ROC curve of a dataset's pairs, over draws of their groups."""
    scored = score_pairs(trained, index_dataset(pairs), batch_size=256)
    table = pq.read_table(pairs)
    both = np.concatenate([table[name].to_numpy() for name in ("group_a", "group_b")])
    a, b = np.arange(both.size).reshape(2, -1)
    group = np.unique(both, return_inverse=True)[1]
    data = Pairs(items=both, group=group, a=a, b=b, label=scored.labels)
    return f"{auc(scored.labels, scored.scores):.3f} {interval(data, scored.scores, auc)}"


def recall_of(trained: TrainedRun, pairs: str) -> str:
    """The share of items whose nearest other item is of their group, over draws of groups."""
    source = read_items(pairs, item="item", group="group")
    codec = choose_codecs(
        source, inputs_of(trained.model), SequenceOptions(), alphabet=trained.alphabet
    ).a
    view = EncodingView(trained.model)
    values = codec.encode(source.items).values
    parts = [view.encode(values[i : i + 256], training=False) for i in range(0, len(values), 256)]
    group = source.group_of_item
    queries = find_queries(group)
    values = measure_queries(np.concatenate(parts), group, queries)
    mean, low, high = estimate(values, group[queries], seed=0)["recall_at_1"]
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Trains with each loss and prints a row of the table for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=Path, help="file with a column `text`; else synthetic ones")
    parser.add_argument("--group", default="author", help="its column of the authors")
    parser.add_argument("--digits", action="store_true", help="digits instead of texts")
    parser.add_argument("--model", help="by default the CNN of the zoo for these items")
    parser.add_argument("--minutes", type=float, default=3.0, help="of one core, for each row")
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pairs(folder / "pairs", options)
        print("| loss | epochs | core s | rows a core s | validation AUC | test AUC | recall@1 |")
        print("| --- | ---: | ---: | ---: | ---: | --- | --- |")
        for name in options.rows:
            run = folder / "runs" / str(list(ROWS).index(name))
            row = for_digits(ROWS[name]) if options.digits else ROWS[name]
            config = configure(row, folder / "pairs", run, options)
            result, seconds = train_for(config, options.minutes)
            trained, test = TrainedRun.load(str(run)), str(folder / "pairs" / "test")
            print(
                f"| {name} | {result.epochs} | {seconds:.0f} | "
                f"{rows_trained(config, result) / seconds:,.0f} | "
                f"{result.metrics['val_roc_auc']:.3f} | "
                f"{auc_of(trained, test)} | {recall_of(trained, test)} |",
                flush=True,
            )


def rows_trained(config: TrainConfig, result: TrainResult) -> int:
    """Items, or listed pairs, of all steps."""
    per_step = config.groups_per_batch * config.items_per_group or config.batch_size
    return result.steps * per_step


if __name__ == "__main__":
    main()
