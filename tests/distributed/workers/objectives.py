"""One rank of training runs with every kind of loss: `python -m ... FOLDER NAME...`.

FOLDER holds the pairs `train` and `validation`; each run goes to `FOLDER/NAME.RANKS`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
from keras import layers

from sharedlayers_dist import TrainConfig, dist, train

GROUPS = {"groups_per_batch": 4, "items_per_group": 3}
PAIRS = {"groups_per_batch": 5, "items_per_group": 2}
RUNS: dict[str, dict[str, Any]] = {
    "all_pairs": GROUPS,
    "all_pairs_in_parts": {**GROUPS, "mini_batch_size": 2},
    "supervised_contrastive": {**GROUPS, "loss": "supervised_contrastive"},
    "triplet": {**GROUPS, "loss": "triplet", "loss_options": {"distance": "cosine"}},
    "in_batch_negatives": {
        **PAIRS,
        "loss": "in_batch_negatives",
        "loss_options": {"temperature": "learned"},
        "mini_batch_size": 2,
    },
    "hard_negatives": {**GROUPS, "hard_negatives": 2, "hard_negatives_max_cosine": 1.0},
    "hard_negatives_of_pairs": {
        **PAIRS,
        "loss": "in_batch_negatives",
        "hard_negatives": 1,
        "hard_negatives_margin": 0.0,
    },
    "contrastive": {"loss": "contrastive"},
    "cosent": {"loss": "cosent"},
}


def make_encoder() -> keras.Model:
    ids = keras.Input((12,), dtype="int32")
    # So far apart from the beginning that cosines are not all near 1, where rounding is coarse.
    x = layers.Embedding(257, 8, keras.initializers.RandomNormal(stddev=1.0))(ids)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(ids, layers.Dense(6)(layers.Dense(16, activation="tanh")(x)))


def make_config(folder: Path, name: str, run: str, **more: Any) -> TrainConfig:
    """The options of a run of `RUNS`, to the folder `run`."""
    return TrainConfig(
        pairs=str(folder / "train"),
        validation=str(folder / "validation"),
        output=str(folder / run),
        batch_size=16,
        epochs=2,
        optimizer="sgd",
        learning_rate=0.05,
        log_every=2,
        retrieval_items=30,
        **RUNS[name],
        **more,
    )


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    world = dist.init()
    for name in names:
        keras.backend.clear_session()  # So that layers get the same numbers in each run.
        train(make_config(folder, name, f"{name}.{world.size}"), build=make_encoder)


if __name__ == "__main__":
    main()
