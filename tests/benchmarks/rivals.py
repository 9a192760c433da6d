"""Training pairs a second beside other ways to train the tweet model: `launch/bench_rivals.sh`.

Each line is the tweet model, a process or two as its users would start it, fed with dense matrices
that are in memory already, apart from the lines of this project:

- the notebook's code in today's Keras, and in legacy Keras (`tf_keras`), which Horovod's own Keras
  wrapper is made for, alone and on two ranks, each of which has half of a batch;
- PyTorch, alone and with DistributedDataParallel over Gloo on two ranks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks.training_speed import (
    NOTEBOOK,
    ROLES,
    Measure,
    encode_tweets,
    measure,
    print_table,
    read_alphabet,
    run_and_find,
    write_pairs,
)

RIVALS = {
    "legacy Keras": ("legacy", 1),
    "legacy Keras and Horovod, two ranks": ("legacy", 2),
    "PyTorch": ("pytorch", 1),
    "PyTorch DDP, two ranks": ("pytorch", 2),
}
OWN = (NOTEBOOK, "one process", "two ranks")


def read_rows(folder: Path, rank: int, size: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A rank's share of 2,048 pairs: both sides, `(rows, 280, 256)`, and labels, `(rows, 1)`."""
    table = pq.read_table(folder).slice(0, 2_048)
    alphabet = read_alphabet(table)
    data = [encode_tweets(table[side], alphabet)[rank::size] for side in "ab"]
    return data, table["label"].to_numpy()[rank::size, None].astype(np.float32)


def train_legacy(folder: Path, batch_size: int) -> None:
    """The notebook's code, and Horovod's three lines."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Read when TensorFlow is imported.
    import horovod.tensorflow.keras as hvd
    from tensorflow import keras

    hvd.init()
    measured = Measure(batch_size)

    class AfterStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            measured.add_step()

    inputs = [keras.Input((280, 256)) for _ in "ab"]
    lstm = keras.layers.LSTM(64)
    merged = keras.layers.concatenate([lstm(one) for one in inputs], axis=-1)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(merged))
    optimizer = hvd.DistributedOptimizer(keras.optimizers.RMSprop())
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"])
    data, labels = read_rows(folder, hvd.rank(), hvd.size())
    model.fit(
        data,
        labels,
        epochs=10_000,
        batch_size=batch_size // hvd.size(),
        callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0), AfterStep()],
        verbose=0,
    )


def train_pytorch(folder: Path, batch_size: int) -> None:
    """The same model by a loop over batches."""
    import torch
    from torch import nn

    rank, size = (int(os.environ.get(name, n)) for name, n in (("RANK", 0), ("WORLD_SIZE", 1)))
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // size))
    # Gradients that vanish over 280 steps become denormal, which TensorFlow flushes by itself:
    # without this a backward pass takes twenty times as long.
    torch.set_flush_denormal(True)

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(256, 64, batch_first=True), nn.Linear(128, 1)

        def forward(self, a: Any, b: Any) -> Any:
            return self.head(torch.cat([self.lstm(side)[0][:, -1] for side in (a, b)], dim=1))

    model: Any = Pair()
    if size > 1:
        torch.distributed.init_process_group("gloo")
        model = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.RMSprop(model.parameters(), 0.001)
    loss, measured = nn.BCEWithLogitsLoss(), Measure(batch_size)
    data, labels = read_rows(folder, rank, size)
    tensors = [torch.from_numpy(array) for array in (*data, labels)]
    while True:
        for rows in torch.randperm(len(labels)).split(batch_size // size):
            a, b, label = (tensor[rows] for tensor in tensors)
            optimizer.zero_grad()
            loss(model(a, b), label).backward()
            optimizer.step()
            measured.add_step()


def measure_rival(role: str, num_ranks: int, folder: Path, batch_size: int) -> dict[str, float]:
    """Runs a rival in processes of its own, and returns what rank zero has measured."""
    module = ["-m", "tests.benchmarks.rivals", "--role", role, "--folder", str(folder)]
    module += ["--batch-size", str(batch_size)]
    command = [sys.executable, *module]
    if num_ranks > 1 and role == "legacy":
        horovodrun = str(Path(sys.executable).parent / "horovodrun")
        command = [horovodrun, "-np", str(num_ranks), "--gloo", *command]
    elif num_ranks > 1:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(num_ranks), *module]
    return run_and_find(command, {})


def main() -> None:
    """Prints a table for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, nargs="*", default=[32, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        train = {"legacy": train_legacy, "pytorch": train_pytorch}[options.role]
        train(options.folder, options.batch_size[0])
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_pairs(Path(temporary) / "pairs", images=False, full=False)
        for batch_size in options.batch_size:
            found: dict[str, list[dict[str, float]]] = {line: [] for line in (*OWN, *RIVALS)}
            for _ in range(options.rounds):
                for line in OWN:
                    found[line].append(measure(*ROLES[line], folder, batch_size))
                for line, rival in RIVALS.items():
                    found[line].append(measure_rival(*rival, folder, batch_size))
            print_table(batch_size, found)


if __name__ == "__main__":
    main()
