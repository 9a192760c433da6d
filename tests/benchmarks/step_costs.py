"""Where a step of the tweet model spends its time: `python -m tests.benchmarks.step_costs`.

All of it is on one core. Floating-point operations are those of the products with the recurrent
kernel, forward and twice as many backward, over the steps that items have, and over those that
their chunks run. The rate beside them is that of a product of large matrices in the same process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import TrainConfig, models
from sharedlayers_dist.data.index import DatasetIndex
from sharedlayers_dist.data.reading.tf_dataset import as_tf_dataset
from sharedlayers_dist.dist.threads import run_operations_on_one_thread
from sharedlayers_dist.models.recurrent.chunks import ROWS, cut_into_chunks
from sharedlayers_dist.training.data_sources import open_data
from sharedlayers_dist.training.readers import pair_reading
from sharedlayers_dist.world import World

STEPS, UNITS, GATES = 30, 64, 256


def seconds_of_each(run: Callable[[Any], Any], batches: list[Any]) -> float:
    """The mean over batches, each after it has run once."""
    for batch in batches:
        run(batch)
    began = time.perf_counter()
    for batch in batches:
        run(batch)
    return (time.perf_counter() - began) / len(batches)


def matrix_rate() -> float:
    """Floating-point operations a second of a product of matrices."""
    size = 1024
    matrix = tf.random.normal((size, size))
    multiply = tf.function(tf.matmul)
    return 2 * size**3 / seconds_of_each(lambda pair: multiply(*pair), [(matrix, matrix)] * STEPS)


def operations(batches: list[Any]) -> tuple[float, float]:
    """Floating-point operations of a step: those that items need, and those that chunks run."""
    needed, run = [], []
    for x, *_ in batches:
        lengths = [np.flatnonzero(row)[0] if row.any() else len(row) for row in x["items"].numpy()]
        needed.append(sum(x["items"].shape[1] - np.array(lengths)))
        run.append(int(tf.reduce_sum(cut_into_chunks(tf.cast(x["items"], tf.int32)).steps)) * ROWS)
    a_step = 3 * 2 * UNITS * GATES
    return float(np.mean(needed)) * a_step, float(np.mean(run)) * a_step


def read(reader: Any) -> Iterator[Any]:
    """All batches of an epoch."""
    return iter(as_tf_dataset(reader, lambda: (0, 0), shares_items=True))


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=256)
    batch_size = parser.parse_args().batch_size
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # Before TensorFlow makes its threads.
    run_operations_on_one_thread()
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "datasets/tweets.py", "--output", temporary]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        pairs = str(Path(temporary) / "train")
        config = TrainConfig(model="tweet_pair", pairs=pairs, output="run", batch_size=batch_size)
        model = models.build("tweet_pair")
        training, _, _ = open_data(config, model)
        assert isinstance(training.source, DatasetIndex)
        reading = pair_reading(training.source, config, codecs=training.codecs, shuffle=True)
        reader = reading.open(World())
        batches = [batch for batch, _ in zip(read(reader), range(STEPS), strict=False)]
        whole = [batch for batch in batches if batch[1].shape[0] == batch_size]
        began = time.perf_counter()
        num_read = sum(1 for _ in read(reader))
        reading_seconds = (time.perf_counter() - began) / num_read
        print_table(batch_size, models.compact_view(model), whole, reading_seconds)


def print_table(batch_size: int, view: keras.Model, batches: list[Any], reading: float) -> None:
    """Times of a step, and what they are made of."""
    loss = keras.losses.BinaryCrossentropy()

    @tf.function(reduce_retracing=True)
    def forward(x: Any) -> Any:
        return view(x, training=False)

    @tf.function(reduce_retracing=True)
    def both(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(y, view(x, training=True))
        return tape.gradient(value, view.trainable_weights)

    view.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    step = seconds_of_each(lambda batch: view.train_on_batch(*batch), batches)
    of_forward = seconds_of_each(lambda batch: forward(batch[0]), batches)
    of_both = seconds_of_each(lambda batch: both(batch[0], batch[1]), batches)
    rate = matrix_rate()
    needed, run = operations(batches)
    print(f"\n| one core, batch {batch_size} | ms a step |")
    print("| --- | ---: |")
    rows = {
        "forward pass": of_forward,
        "backward pass, and what the forward pass leaves for it": of_both - of_forward,
        "update, metrics, Keras's Python": step - of_both,
        "reading, beside the step where there is a core": reading,
        f"the floor: {needed / batch_size / 1e6:.1f} million operations a pair": needed / rate,
        f"the same for whole chunks: {run / batch_size / 1e6:.1f} million": run / rate,
    }
    for name, seconds in rows.items():
        print(f"| {name} | {1000 * seconds:.1f} |")
    print(f"\n{rate / 1e9:.0f} GFLOP/s in a product of matrices of 1,024 x 1,024.")


if __name__ == "__main__":
    main()
