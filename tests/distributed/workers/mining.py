"""One rank that mines hard negatives with fresh weights: `python -m ... FOLDER`.

It writes what its reader has then to `FOLDER/mined-RANK-of-RANKS.npz`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

from sharedlayers_dist import dist
from sharedlayers_dist.data import ItemReader, ModelInput, choose_codecs, read_items
from sharedlayers_dist.models import EncodingView, pair_classifier
from sharedlayers_dist.training import negatives
from sharedlayers_dist.training.mining import MineNegatives
from sharedlayers_dist.training.position import Position
from tests.distributed.workers.objectives import make_config


def make_encoder() -> keras.Model:
    """So wide that matrix products round differently for other numbers of rows."""
    ids = keras.Input((12,), dtype="int32")
    x = layers.Flatten()(
        layers.Embedding(257, 64, keras.initializers.RandomNormal(stddev=1.0))(ids)
    )
    return keras.Model(ids, layers.Dense(200)(layers.Dense(300, activation="tanh")(x)))


def main() -> None:
    folder = Path(sys.argv[1])
    world = dist.init()
    negatives._MOST_QUERIES = 16  # Several blocks of a few items.
    keras.utils.set_random_seed(0)
    view = EncodingView(pair_classifier(make_encoder(), "scaled_cosine"))
    config = make_config(folder, "hard_negatives", "unused", hard_negatives_margin=0.2)
    items = read_items(config.pairs, item="", group="")
    codec = choose_codecs(
        items,
        dict.fromkeys("ab", ModelInput("ids", (12,), "int32")),
        alphabet="abcdefghijklmnopqrstuvwxyz",
    ).a
    reader = ItemReader(
        items, codec=codec, groups_per_batch=4, items_per_group=3, seed=0, world=world
    )
    mining = MineNegatives(view, reader, config, at_once=7, start=Position())
    mining.on_epoch_begin(1)
    assert reader.negatives is not None
    np.savez(
        folder / f"mined-{world.rank}-of-{world.size}.npz",
        negatives=reader.negatives,
        share=mining.get_state()["hard_negatives_share"],
        cosine=mining.get_state()["hard_negatives_cosine"],
        items=reader.plan(1).items,
    )


if __name__ == "__main__":
    main()
