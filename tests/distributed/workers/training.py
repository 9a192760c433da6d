"""One rank of a training run: `python -m tests.distributed.workers.training OPTIONS [BROKEN]`.

OPTIONS are those of TrainConfig, as JSON. BROKEN is `averaging`, to take it out: what the tests
compare must then differ.
"""

import json
import sys

import keras

from sharedlayers_dist import TrainConfig, dist, train


def main() -> None:
    options, *broken = sys.argv[1:]
    if broken == ["averaging"]:
        distribute = dist.DistributedOptimizer

        def distribute_in_name_only(optimizer):
            distributed = distribute(optimizer)
            distributed._distribution.is_reduced = True
            return distributed

        dist.DistributedOptimizer = distribute_in_name_only
        dist.ReplicaGuard = keras.callbacks.Callback  # It would stop the training for that.
    result = train(TrainConfig(**json.loads(options)))
    print(f"rank {dist.rank()} finished {result.steps} steps")


if __name__ == "__main__":
    main()
