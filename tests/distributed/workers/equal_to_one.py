"""Trains small models on this rank's share of fixed batches; rank zero writes what came out.

Command line: output folder, then how gradients are combined, one or more of: `exact`, `none`,
`mean_of_means`, each of them also `accumulated-`. `none` and `mean_of_means` break it on purpose,
so that the tests see that they would notice.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

from sharedlayers_dist import dist

BATCH, SAMPLES, FEATURES = 12, 41, 5  # A last batch of 5, of which ranks get unequal shares.
PASSES = 5  # Of 3 epochs of 4 batches each: two updates, and two batches are left over.


def batches(rank: int, size: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Returns this rank's rows of every global batch: contiguous, unequal where it must be."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
    y = (x.sum(axis=1, keepdims=True) > 0).astype("float32")
    weight = rng.uniform(0.5, 2, SAMPLES).astype("float32")
    shares = []
    for start in range(0, SAMPLES, BATCH):
        rows = np.arange(start, min(start + BATCH, SAMPLES))
        own = np.array_split(rows, size)[rank]
        shares.append((x[own], y[own], weight[own]))
    return shares


def make_model(rank: int) -> keras.Model:
    """Returns a model whose initial weights differ over ranks, until they are broadcast."""
    keras.utils.set_random_seed(7 + rank)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(8, activation="tanh", kernel_regularizer="l2"),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


class Batches(keras.utils.PyDataset):
    """Keras's own interface to batches of unequal size."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self._batches = batches(rank, size)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return self._batches[index]


def train(how: str) -> dict[str, np.ndarray]:
    """Returns weights, slots and logs after three epochs."""
    world = dist.world()
    model = make_model(world.rank)
    is_accumulated, how = how.startswith("accumulated-"), how.removeprefix("accumulated-")
    optimizer = dist.DistributedOptimizer(
        keras.optimizers.Adam(0.05),
        backward_passes_per_step=PASSES if is_accumulated else 1,
        average_aggregated_gradients=is_accumulated,
    )
    model.compile(
        optimizer,
        "binary_crossentropy",
        metrics=["accuracy"],
        weighted_metrics=[keras.metrics.AUC(name="auc")],
    )
    if world.size > 1 and how == "none":
        optimizer._distribution.is_reduced = True
    if world.size > 1 and how == "mean_of_means":
        dist.prepare(model, num_samples=lambda x, y, weight: 1.0)
    history = model.fit(
        Batches(world.rank, world.size),
        shuffle=False,
        epochs=3,
        callbacks=[dist.BroadcastInitialState(), dist.ExactMetrics()],
        verbose=0,
        validation_data=Batches(world.rank, world.size),
    ).history
    state = {f"weight{i}": w for i, w in enumerate(model.get_weights())}
    state |= {f"slot{i}": np.asarray(v) for i, v in enumerate(optimizer.variables)}
    left_over = dist.accumulated_gradients(optimizer)
    state |= {f"accumulated{i}": array for i, array in enumerate(left_over)}
    return state | {f"log_{name}": np.asarray(values) for name, values in history.items()}


def main() -> None:
    folder, hows = Path(sys.argv[1]), sys.argv[2:]
    world = dist.init()
    for how in hows:
        arrays = train(how)
        np.savez(folder / f"{how}.{world.size}.{world.rank}.npz", allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
