"""A user's own script: it joins Ray as anyone does, and gives `train` callbacks made with Keras.

`python -m tests.distributed.workers.own_cluster OPTIONS`, with those of TrainConfig as JSON.
"""

import json
import sys

import ray

import sharedlayers_dist.ray
from sharedlayers_dist import TrainConfig
from sharedlayers_dist.quiet import holding_back_notes

with holding_back_notes():  # Of this process; the test looks for those of others.
    import keras


def make_callbacks() -> list[keras.callbacks.Callback]:
    return [keras.callbacks.TerminateOnNaN()]


def main() -> None:
    ray.init()
    result = sharedlayers_dist.ray.train(TrainConfig(**json.loads(sys.argv[1])), make_callbacks)
    print(f"{result.steps} steps")


if __name__ == "__main__":
    main()
