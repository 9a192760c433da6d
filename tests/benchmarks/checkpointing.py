"""What checkpoints cost: `python -m tests.benchmarks.checkpointing`.

First the time that the training thread pays for a save of the tweet model. Then the share of the
wall time for a model of 100 MB (as much again for RMSprop) that is saved every 10 seconds: by the
CPU time of a save alone, and by intervals with a save and without, in turns in one process. Other
work on the machine shows in the intervals.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from sharedlayers_dist import models
from sharedlayers_dist.quiet import holding_back_notes
from sharedlayers_dist.storage.folder import LocalFolder

with holding_back_notes():
    import keras

    from sharedlayers_dist.training.checkpoints import state
    from sharedlayers_dist.training.checkpoints.manager import CheckpointManager
    from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
    from sharedlayers_dist.training.position import Position

SECONDS_BETWEEN_SAVES = 10.0
NUM_INTERVALS = 6


def save(
    model: keras.Model, manager: CheckpointManager, step: int, memory: state.HostMemory
) -> float:
    """Seconds that the training thread pays."""
    manager.wait(600)
    began = time.perf_counter()
    metric_states = [np.asarray(v) for v in model.metrics_variables]
    checkpoint = state.capture(model, {"metrics": metric_states}, Position(step=step), {}, memory)
    manager.save(checkpoint, {})
    return time.perf_counter() - began


def measure_tweet_model(folder: Path) -> None:
    model = models.compact_view(models.build("tweet_pair"))
    model.compile(keras.optimizers.RMSprop(), "binary_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    manager = CheckpointManager(
        LocalFolder(folder), RetentionPolicy(newest=2), before=lambda: None, start=0
    )
    memory = state.HostMemory()
    paid = [save(model, manager, step, memory) * 1000 for step in range(1, 31)]
    manager.close()
    print(
        f"tweet model: a save costs the training thread {statistics.median(paid):.1f} ms "
        f"(most {max(paid):.1f} ms), of 30"
    )


class LargeTraining:
    """Trains 100 MB of weights in steps of some 50 ms."""

    def __init__(self) -> None:
        self.model = keras.Sequential(
            [
                keras.Input((64,), dtype="int32"),
                keras.layers.Embedding(90_000, 256),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1024, activation="relu"),
                keras.layers.Dense(1024, activation="relu"),
                keras.layers.Dense(1),
            ]
        )
        self.model.compile(keras.optimizers.RMSprop(), "mse", metrics=["mae"])
        rng = np.random.default_rng(0)
        self._x = rng.integers(0, 90_000, (256, 64)).astype(np.int32)
        self._y = rng.random((256, 1)).astype(np.float32)
        self.step = 0
        self.memory = state.HostMemory()
        self.train_step()

    def train_step(self) -> None:
        self.model.train_on_batch(self._x, self._y)
        self.step += 1

    def run(self, num_steps: int, manager: CheckpointManager | None) -> tuple[float, float, float]:
        """Wall and CPU seconds of `num_steps`, and what the thread paid for a save after the first.

        The interval is long enough for the writing to end within it.
        """
        began, cpu, paid = time.perf_counter(), time.process_time(), 0.0
        for number in range(num_steps):
            self.train_step()
            if number == 0 and manager is not None:
                paid = save(self.model, manager, self.step, self.memory)
        seconds = time.perf_counter() - began, time.process_time() - cpu
        if manager is not None and manager.is_busy:
            print("  (writing took longer than the interval)")
            manager.wait(600)
        return *seconds, paid


def measure_large_model(folder: Path) -> None:
    training = LargeTraining()
    megabytes = sum(v.value.numpy().nbytes for v in training.model.weights) / 1e6
    manager = CheckpointManager(
        LocalFolder(folder), RetentionPolicy(newest=2), before=lambda: None, start=0
    )
    alone = []
    for _ in range(5):
        cpu = time.process_time()
        save(training.model, manager, training.step, training.memory)
        manager.wait(600)
        alone.append(time.process_time() - cpu)
    seconds, num_cores = statistics.median(alone), len(os.sched_getaffinity(0))
    print(
        f"{megabytes:.0f} MB of weights: a save takes {seconds:.2f} s of CPU time in all, "
        f"{seconds / SECONDS_BETWEEN_SAVES / num_cores:.1%} of {SECONDS_BETWEEN_SAVES:.0f} s on "
        f"{num_cores} cores"
    )
    began = time.perf_counter()
    for _ in range(20):
        training.train_step()
    num_steps = round(SECONDS_BETWEEN_SAVES / (time.perf_counter() - began) * 20)
    print(f"intervals of {num_steps} steps, with one save:")
    wall_shares, cpu_shares = [], []
    for number in range(NUM_INTERVALS):
        turns = [None, manager] if number % 2 == 0 else [manager, None]
        figures = {turn is not None: training.run(num_steps, turn) for turn in turns}
        (wall, cpu, _), (wall_saved, cpu_saved, paid) = figures[False], figures[True]
        wall_shares.append(wall_saved / wall - 1)
        cpu_shares.append(cpu_saved / cpu - 1)
        print(
            f"  {wall:.2f} s without, {wall_saved:.2f} s with a save ({wall_shares[-1]:+.1%}; CPU "
            f"time {cpu_shares[-1]:+.1%}); the thread paid {paid * 1000:.0f} ms"
        )
    manager.close()
    print(
        f"share of the wall time: median {statistics.median(wall_shares):+.1%} (aim: under 5 %); "
        f"of the CPU time: {statistics.median(cpu_shares):+.1%}"
    )


def main() -> None:
    keras.utils.set_random_seed(0)
    for measure in (measure_tweet_model, measure_large_model):
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder))


if __name__ == "__main__":
    main()
