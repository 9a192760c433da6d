"""What the encoders reach, and how fast: `python -m tests.benchmarks.encoders`.

Two ways to train:

- `pk`, as `--groups-per-batch` does: batches of P groups times K items, all pairs in each of them,
  positives and negatives of the same weight in all. Each item is encoded once a step.
- `pairs`: the listed pairs, in shuffled runs of 32. Each item is encoded once a step.

Both minimise binary cross-entropy with AdamW, whose step grows for 5% of the steps and then falls
along a cosine; a recipe named RMSprop has that optimizer with a fixed step, as `sharedlayers train`
has it. Figures are of pairs of unseen groups (texts) or items (images), after the last
step; the intervals are the middle 95% of 500 draws of as many groups (texts) with replacement.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sharedlayers_dist import models
from sharedlayers_dist.data.order.pk_batches import pair_items, plan_groups
from sharedlayers_dist.evaluate.figures import measure
from sharedlayers_dist.models.expanding import expand
from sharedlayers_dist.models.graph import run_graph
from tests.benchmarks.encoder_data import (
    Pairs,
    Task,
    load_digits_8x8,
    load_digits_28x28,
    load_images,
    load_texts,
    write_synthetic_texts,
)

RUN_LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train one model."""

    model: str
    kind: str = "text"
    options: dict[str, Any] = field(default_factory=dict)
    batches: str = "pk"
    groups_per_batch: int = 32
    items_per_group: int = 4
    batch_size: int = 256
    optimizer: str = "adamw"
    learning_rate: float = 0.005


RECIPES = {
    "cnn": Recipe(model="character_cnn_pair"),
    "cnn, listed pairs": Recipe(model="character_cnn_pair", batches="pairs"),
    "cnn, comparison": Recipe(model="character_cnn_pair", options={"head": "comparison"}),
    "cnn, RMSprop": Recipe(model="character_cnn_pair", optimizer="rmsprop", learning_rate=0.001),
    "gru": Recipe(model="character_gru_pair"),
    "transformer": Recipe(model="character_transformer_pair", learning_rate=0.001),
    "images": Recipe(
        model="residual_cnn_pair",
        kind="image",
        groups_per_batch=10,
        items_per_group=12,
        learning_rate=0.002,
    ),
}


class Batch(NamedTuple):
    """The items of a step, each once, and its pairs as places in them."""

    items: NDArray
    a: NDArray
    b: NDArray
    label: NDArray[np.float32]
    weight: NDArray[np.float32]


def iter_pk(data: Pairs, recipe: Recipe, seed: int) -> Iterator[Batch]:
    """Batches of P groups times K items, for ever."""
    epoch = 0
    while True:
        plan = plan_groups(
            data.group,
            groups_per_batch=recipe.groups_per_batch,
            items_per_group=recipe.items_per_group,
            seed=seed,
            epoch=epoch,
        )
        for step in range(plan.num_steps):
            own = plan.items_of_step(step)
            yield Batch(
                data.items[own], *pair_items(data.group[own], seed=seed, epoch=epoch, step=step)
            )
        epoch += 1


def iter_listed(data: Pairs, recipe: Recipe, seed: int) -> Iterator[Batch]:
    """Batches of the listed pairs, in shuffled runs, for ever."""
    rng = np.random.default_rng(seed)
    while True:
        runs = rng.permutation(len(data.a) // RUN_LENGTH)
        order = (runs[:, None] * RUN_LENGTH + np.arange(RUN_LENGTH)).ravel()
        for start in range(0, order.size - recipe.batch_size + 1, recipe.batch_size):
            rows = order[start : start + recipe.batch_size]
            own, places = np.unique([data.a[rows], data.b[rows]], return_inverse=True)
            a, b = places.reshape(2, -1)
            label = data.label[rows]
            yield Batch(data.items[own], a, b, label, np.ones_like(label))


class Scorer:
    """A pair model taken apart: items to encodings, encodings of pairs to scores."""

    def __init__(self, model: keras.Model) -> None:
        found = models.find_encoder(model)
        assert found is not None
        self.model, self.encoder = model, found.layer
        self._sides = found.encoded
        self._infer = tf.function(
            lambda items: self.encode(items, training=False), reduce_retracing=True
        )

    def encode(self, items: Any, *, training: bool) -> Any:
        """Encodes compact items: `(N, ...) -> (N, D)`."""
        return self.encoder(expand(items, self.model.inputs[0]), training=training)

    def compare(self, encoded: Any, a: Any, b: Any, *, training: bool) -> Any:
        """Scores pairs of encodings, given by their places: `(pairs,)`."""
        known = {
            id(side): tf.gather(encoded, x) for side, x in zip(self._sides, (a, b), strict=True)
        }
        return run_graph(self.model, known, training=training)[:, 0]

    def score(self, data: Pairs, rows_at_once: int = 256) -> NDArray[np.float32]:
        """Scores all pairs, each item encoded once."""
        starts = range(0, len(data.items), rows_at_once)
        parts = [self._infer(data.items[i : i + rows_at_once]).numpy() for i in starts]
        return self.compare(np.concatenate(parts), data.a, data.b, training=False).numpy()


def make_optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    """AdamW with its schedule, or RMSprop with a fixed step."""
    if recipe.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(recipe.learning_rate)
    warmup = max(1, steps // 20)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )
    return keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)


def train(recipe: Recipe, data: Pairs, *, steps: int, seed: int) -> tuple[Scorer, float, int]:
    """Trains a model; returns it, the seconds that it took and the pairs that it saw."""
    keras.utils.set_random_seed(seed)
    scorer = Scorer(models.build(recipe.model, **recipe.options))
    optimizer = make_optimizer(recipe, steps)
    variables = scorer.model.trainable_variables
    optimizer.build(variables)

    def step(items: Any, a: Any, b: Any, label: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            encoded = scorer.encode(items, training=True)
            scores = scorer.compare(encoded, a, b, training=True)
            losses = keras.losses.binary_crossentropy(label[:, None], scores[:, None])
            loss = tf.reduce_mean(weight * losses)
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    compiled = tf.function(step, reduce_retracing=True)
    batches = (iter_pk if recipe.batches == "pk" else iter_listed)(data, recipe, seed)
    num_pairs = 0
    start = time.perf_counter()
    for number in range(1, steps + 1):
        batch = next(batches)
        compiled(*map(tf.constant, batch))
        num_pairs += batch.label.size
        if sys.stderr.isatty():
            print(f"\r{number}/{steps} steps", end="", file=sys.stderr)
    return scorer, time.perf_counter() - start, num_pairs


def interval(data: Pairs, scores: NDArray, figure: Callable[..., float], draws: int = 500) -> str:
    """The middle 95% of a figure over draws of groups."""
    rng = np.random.default_rng(0)
    num_groups = data.group.max() + 1
    group_a, group_b = data.group[data.a], data.group[data.b]
    figures = []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, num_groups, num_groups), minlength=num_groups)
        weight = times[group_a] * np.where(group_a == group_b, 1, times[group_b])
        figures.append(figure(data.label, scores, weight.astype(float)))
    low, high = np.percentile(figures, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"


def auc(label: NDArray, scores: NDArray, weight: NDArray | None = None) -> float:
    """The area under the ROC curve."""
    return measure(label, scores, weight).roc_auc or 0.0


def report(name: str, recipe: Recipe, task: Task, options: argparse.Namespace) -> None:
    """Trains with each seed, and prints a line for it."""
    steps = options.steps if recipe.kind == "text" else options.image_steps
    for seed in range(options.seeds):
        scorer, seconds, num_pairs = train(recipe, task.training, steps=steps, seed=seed)
        figures = [
            f"validation AUC {auc(task.validation.label, scorer.score(task.validation)):.3f}",
            *told_of(task.test, scorer.score(task.test), is_text=recipe.kind == "text"),
        ]
        print(
            f"{name:>20} seed {seed}: {', '.join(figures)}; {steps} steps in {seconds:.0f} s, "
            f"{num_pairs / seconds:,.0f} pairs/s (load {os.getloadavg()[0]:.1f})",
            flush=True,
        )


def told_of(test: Pairs, scores: NDArray, *, is_text: bool) -> list[str]:
    """The figures of scored test pairs."""
    if not is_text:
        return [f"test accuracy {measure(test.label, scores).accuracy:.4f}"]
    told = [f"test AUC {auc(test.label, scores):.3f} {interval(test, scores, auc)}"]
    if test.context is not None:
        own = test.context[test.a] == test.context[test.b]
        told.append(f"within one context {auc(test.label[own], scores[own]):.3f}")
        told.append(f"by the context alone {auc(test.label, own.astype(float)):.3f}")
    return told


def report_baselines(task: Task) -> None:
    """Prints what scikit-learn reaches with n-grams of characters."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    assert task.texts is not None
    grams = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 3), min_df=20, sublinear_tf=True, lowercase=False
    )
    training, test = grams.fit_transform(task.texts[0]), grams.transform(task.texts[1])
    cosine = np.asarray(test[task.test.a].multiply(test[task.test.b]).sum(axis=1)).ravel()
    told = told_of(task.test, np.clip(cosine, 0, 1), is_text=True)
    print(f"{'TF-IDF, cosine':>20}: {', '.join(told)}")
    pairs = task.training
    model = make_pipeline(MaxAbsScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(abs(training[pairs.a] - training[pairs.b]), pairs.label)
    scores = model.predict_proba(abs(test[task.test.a] - test[task.test.b]))[:, 1]
    print(f"{'logistic regression':>20}: {', '.join(told_of(task.test, scores, is_text=True))}")


def main() -> None:
    """Trains each recipe and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=Path, help="file with a column `text`; else synthetic ones")
    parser.add_argument("--group", default="author", help="its column of the authors")
    parser.add_argument("--context", default="", help="its column to tell pairs apart by")
    parser.add_argument("--images", type=Path, help=".npz of `images` (N, H, W) and `labels`")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--steps", type=int, default=100, help="steps of a training on texts")
    parser.add_argument("--image-steps", type=int, default=100, help="steps of one on images")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    recipes = {name: RECIPES[name] for name in options.recipes}
    texts = {name: recipe for name, recipe in recipes.items() if recipe.kind == "text"}
    if texts:
        with tempfile.TemporaryDirectory() as folder:
            items = options.texts or Path(folder, "texts.parquet")
            if not options.texts:
                write_synthetic_texts(items)
            task = load_texts(
                items, Path(folder, "pairs"), group=options.group, context=options.context
            )
        report_baselines(task)
        for name, recipe in texts.items():
            report(name, recipe, task, options)
    if "images" in recipes:
        tasks = {"8x8": load_digits_8x8(), "28x28": load_digits_28x28()}
        if options.images:
            tasks = {options.images.stem: load_images(options.images)}
        for name, task in tasks.items():
            report(f"images, {name}", recipes["images"], task, options)


if __name__ == "__main__":
    main()
