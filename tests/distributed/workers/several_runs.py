"""One rank of several training runs, one after the other: starting processes is what takes time.

`python -m tests.distributed.workers.several_runs FILE`: a JSON list of the options of each run.
"""

import json
import sys
from pathlib import Path

import keras

from sharedlayers_dist import TrainConfig, train


def main() -> None:
    for options in json.loads(Path(sys.argv[1]).read_text()):
        keras.backend.clear_session()  # So that layers get the same numbers in each run.
        train(TrainConfig(**options))


if __name__ == "__main__":
    main()
