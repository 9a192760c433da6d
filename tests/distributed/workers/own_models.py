"""One rank that trains several models of a user's own, one run after the other.

`python -m tests.distributed.workers.own_models PAIRS OUTPUT NAME...`: the names are functions of
`tests/distributed/own_models.py`, each of which leaves its run in a folder of that name.
"""

import sys
from pathlib import Path

import keras

from sharedlayers_dist import TrainConfig, train
from tests.distributed import own_models
from tests.runs import make_options


def options_of(name: str) -> dict[str, object]:
    """What each run is told beside its model."""
    if name == "attention":  # It brings all of it.
        return {"learning_rate": None}
    return {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "learning_rate": 0.05}


def main() -> None:
    pairs, output, *names = sys.argv[1:]
    for name in names:
        keras.backend.clear_session()  # So that layers get the same numbers in each run.
        options = make_options(pairs, Path(output, name), **options_of(name))
        train(TrainConfig(**options), build=getattr(own_models, name))


if __name__ == "__main__":
    main()
