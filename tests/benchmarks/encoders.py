"""What the encoders reach, and how fast: `python -m tests.benchmarks.encoders`.

Two ways to train:

- `pk`, as `--groups-per-batch` does: batches of P groups times K items, all pairs in each of them,
  positives and negatives of the same weight in all. Each item is encoded once a step.
- `pairs`: the listed pairs, in shuffled runs of 32. Each item is encoded once a step.

Both minimise binary cross-entropy with AdamW, whose step grows for 5% of the steps and then falls
along a cosine; a recipe named RMSprop has that optimizer with a fixed step, as `sharedlayers train`
has it. Figures are of pairs of unseen groups (texts) or items (images), after the last
step; the intervals are the middle 95% of 500 draws of as many groups (texts) with replacement.
Pairs are those within a batch, of which N items make N (N - 1) / 2; they are counted by the second
of one core, since others may use the machine. The time is that of training alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sharedlayers_dist import models
from sharedlayers_dist.data.order.pk_batches import pair_items, plan_groups
from sharedlayers_dist.evaluate.figures import measure
from sharedlayers_dist.models.compact import expand
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
from tests.benchmarks.encoder_recipes import RECIPES, Recipe, make_optimizer

RUN_LENGTH = 32


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


class Trained(NamedTuple):
    """A trained model, and what it took."""

    scorer: Scorer
    seconds: float
    processor_seconds: float
    num_pairs: int
    num_items: int

    def __str__(self) -> str:
        """What it took, for people."""
        return (
            f"{self.seconds:.0f} s (load {os.getloadavg()[0]:.1f}), which took "
            f"{self.processor_seconds:.0f} s of one core, each of them for "
            f"{self.num_pairs / self.processor_seconds:,.0f} pairs of "
            f"{self.num_items / self.processor_seconds:,.0f} items"
        )


def train(recipe: Recipe, data: Pairs, *, steps: int, seed: int) -> Trained:
    """Trains a model."""
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
    num_pairs = num_items = 0
    start, processor_start = time.perf_counter(), time.process_time()
    for number in range(1, steps + 1):
        batch = next(batches)
        compiled(*map(tf.constant, batch))
        num_pairs += batch.label.size
        num_items += len(batch.items)
        if sys.stderr.isatty():
            print(f"\r{number}/{steps} steps", end="", file=sys.stderr)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    return Trained(scorer, seconds, processor_seconds, num_pairs, num_items)


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
    """Trains with each seed, and prints a line for it; after several, also their mean."""
    steps = options.steps or recipe.steps
    reached = []
    for seed in range(options.seeds):
        trained = train(recipe, task.training, steps=steps, seed=seed)
        score = trained.scorer.score
        tested = score(task.test)
        reached.append(figure_of(task.test, tested, is_text=recipe.kind == "text"))
        figures = [
            f"{trained.scorer.encoder.count_params():,} parameters",
            f"validation AUC {auc(task.validation.label, score(task.validation)):.3f}",
            *told_of(task.test, tested, is_text=recipe.kind == "text"),
        ]
        print(
            f"{name:>20} seed {seed}: {', '.join(figures)}; {steps} steps in {trained}", flush=True
        )
    if len(reached) > 1:
        print(f"{name:>20} mean: {np.mean(reached):.4f} ({min(reached):.4f} to {max(reached):.4f})")


def figure_of(test: Pairs, scores: NDArray, *, is_text: bool) -> float:
    """The one figure that says most of scored test pairs: AUC of texts, accuracy of images."""
    return auc(test.label, scores) if is_text else measure(test.label, scores).accuracy


def told_of(test: Pairs, scores: NDArray, *, is_text: bool) -> list[str]:
    """The figures of scored test pairs."""
    figure = figure_of(test, scores, is_text=is_text)
    if not is_text:
        return [f"test accuracy {figure:.4f}"]
    told = [f"test AUC {figure:.3f} {interval(test, scores, auc)}"]
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
    parser.add_argument("--steps", type=int, help="steps of each training; else its recipe's own")
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
