"""One rank of a training run: `python -m tests.distributed.workers.training OPTIONS [CHANGE]`.

OPTIONS are those of TrainConfig, as JSON. CHANGE is `averaging`, to take it out: what the tests
compare must then differ; or a rank, which is then late for each step.
"""

import json
import os
import sys
import time

import keras

from sharedlayers_dist import TrainConfig, dist, train
from tests.distributed.workers.patient import Patient


class Late(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        time.sleep(0.5)


def main() -> None:
    options, *change = sys.argv[1:]
    callbacks: list[keras.callbacks.Callback] = [Patient()]
    if change == ["averaging"]:
        distribute = dist.DistributedOptimizer

        def distribute_in_name_only(optimizer, **options):
            distributed = distribute(optimizer, **options)
            distributed._distribution.is_reduced = True
            return distributed

        dist.DistributedOptimizer = distribute_in_name_only
        # It would stop the training for that.
        dist.ReplicaGuard = keras.callbacks.Callback  # type: ignore[misc]
    elif change == [os.environ.get("HOROVOD_RANK")]:
        callbacks.append(Late())
    result = train(TrainConfig(**json.loads(options)), callbacks)
    print(f"rank {dist.rank()} finished {result.steps} steps")


if __name__ == "__main__":
    main()
