"""Training pairs a second: `python -m tests.benchmarks.training_speed`.

Each line of the table is a process of its own, as its users would start it, and they take turns:

- the notebook's code in today's Keras: dense arrays, one encoder called on both sides, `fit`;
- `sharedlayers_dist.train` without its fast paths, and with them, in one process;
- the same on two ranks.

Pairs are the project's own: tweets (mean 84 characters), or with `--full` texts of 280 characters;
images for `--model digit_pair` and with `--images`. A model of one's own has no notebook's line,
and may need options of `train`: `--alphabet-size 96`.
Speed is that of the steps after the first seconds, in which graphs and programs are compiled; the
seconds to the first step are from the start of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

STARTED = time.time()
SECONDS_TO_WARM_UP, SECONDS = 10.0, 10.0
NOTEBOOK = "the notebook as written"
OF_NOTEBOOK = ("tweet_pair", "digit_pair")
ROLES = {
    NOTEBOOK: ("notebook", 1),
    "without fast paths": ("plain", 1),
    "one process": ("fast", 1),
    "two ranks": ("fast", 2),
}


class Measure:
    """Times the steps of a training, and ends it."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._times: list[float] = []
        self._first = 0.0

    def add_step(self) -> None:
        """Called after each step."""
        now = time.perf_counter()
        if not self._first:
            self._first, self._seconds_to_first = now, time.time() - STARTED
        if now - self._first >= SECONDS_TO_WARM_UP:
            self._times.append(now)
        if len(self._times) > 3 and self._times[-1] - self._times[0] >= SECONDS:
            self._report()
            os._exit(0)

    def _report(self) -> None:
        seconds = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        found = {
            "pairs": self._batch_size / seconds,
            "megabytes": megabytes,
            "first": self._seconds_to_first,
        }
        print(f"found {json.dumps(found)}", flush=True)


def run_role(role: str, folder: Path, batch_size: int, model: str, alphabet_size: int) -> None:
    """Trains until enough steps are timed."""
    import keras

    measure = Measure(batch_size)

    class AfterStep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            measure.add_step()

    if role == "notebook":
        train_as_notebook(model, folder, batch_size, AfterStep())
        return
    from sharedlayers_dist import TrainConfig, train

    run = os.environ.get("BENCHMARK_RUN", tempfile.mkdtemp())
    config = TrainConfig(
        model=model,
        alphabet_size=alphabet_size,
        pairs=str(folder),
        output=f"{run}/run",
        batch_size=batch_size,
        epochs=10_000,
        fast_paths=role == "fast",
        checkpoint_minutes=60.0,
    )
    train(config, [AfterStep()])


def train_as_notebook(model: str, folder: Path, batch_size: int, callback: Any) -> None:
    """The notebook's code: arrays in memory, and one encoder for both sides."""
    import keras
    from keras import layers

    table = pq.read_table(folder).slice(0, 2_048)
    if model == "tweet_pair":
        encoder: Any = layers.LSTM(64)
        encode: Any = partial(encode_tweets, alphabet=read_alphabet(table))
    else:
        digit_input = keras.Input((27, 27, 1))
        x = layers.Conv2D(64, (3, 3))(digit_input)
        x = layers.Conv2D(64, (3, 3))(x)
        x = layers.MaxPooling2D((2, 2))(x)
        encoder = keras.Model(digit_input, layers.Flatten()(x))
        encode = encode_digits
    data = [encode(table[side]) for side in "ab"]
    inputs = [keras.Input(array.shape[1:]) for array in data]
    merged = layers.concatenate([encoder(one) for one in inputs], axis=-1)
    pair = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(merged))
    pair.compile(optimizer="rmsprop", loss="binary_crossentropy", metrics=["accuracy"])
    pair.fit(
        data,
        table["label"].to_numpy(),
        epochs=10_000,
        batch_size=batch_size,
        callbacks=[callback],
        verbose=0,
    )


def read_alphabet(table: pa.Table) -> str:
    """The alphabet of a dataset of texts."""
    alphabet: str = json.loads(table.schema.metadata[b"sharedlayers"])["alphabet"]
    return alphabet


def encode_tweets(texts: pa.ChunkedArray, alphabet: str) -> np.ndarray:
    """Binary matrices, `(rows, 280, 256)`."""
    column = {character: place for place, character in enumerate(alphabet)}
    data = np.zeros((len(texts), 280, 256), np.float32)
    for row, text in enumerate(texts.to_pylist()):
        text = text[-280:]
        for step, character in enumerate(text, 280 - len(text)):
            if character in column:
                data[row, step, column[character]] = 1
    return data


def encode_digits(images: pa.ChunkedArray) -> np.ndarray:
    """Pixels in [0, 1], `(rows, 27, 27, 1)`."""
    pixels = images.combine_chunks().to_numpy_ndarray()
    return pixels.reshape(-1, 27, 27, 1).astype(np.float32) / 255


def write_pairs(folder: Path, *, images: bool, full: bool) -> Path:
    """The project's own training set; `full` makes each text 280 characters long."""
    script = "datasets/digits.py" if images else "datasets/tweets.py"
    subprocess.run(
        [sys.executable, script, "--output", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    if full:
        for file in (folder / "train").glob("*.parquet"):
            table = pq.read_table(file)
            for place, side in enumerate("ab"):
                texts = [(f"{text} " * 280)[:280] for text in table[side].to_pylist()]
                table = table.set_column(place, side, pa.array(texts))
            pq.write_table(table, file, row_group_size=5_000)
    return folder / "train"


def measure(
    role: str, num_ranks: int, folder: Path, batch_size: int, *options: str
) -> dict[str, float]:
    """Runs a role in processes of its own, and returns what rank zero has measured."""
    command = [sys.executable, "-m", "tests.benchmarks.training_speed", "--role", role]
    command += ["--folder", str(folder), "--batch-size", str(batch_size), *options]
    if num_ranks > 1:
        horovodrun = str(Path(sys.executable).parent / "horovodrun")
        command = [horovodrun, "-np", str(num_ranks), "--gloo", *command]
    with tempfile.TemporaryDirectory() as run:
        return run_and_find(command, {"BENCHMARK_RUN": run})


def run_and_find(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Runs a command, and returns what its rank zero has measured, or the first rank to say so."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
    )
    lines = [line.split("found ", 1)[1] for line in done.stdout.splitlines() if "found {" in line]
    if not lines:
        raise RuntimeError(f"{command} has measured nothing:\n{done.stdout}\n{done.stderr}")
    found: dict[str, float] = json.loads(lines[0])
    return found


def main() -> None:
    """Prints a table for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, nargs="*", default=[32, 256, 1024])
    parser.add_argument("--model", default="tweet_pair", help="a name, or FILE.py:FUNCTION")
    parser.add_argument("--alphabet-size", type=int, default=256)
    parser.add_argument("--images", action="store_true", help="digits in place of tweets")
    parser.add_argument("--full", action="store_true", help="texts of 280 characters")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", nargs="*", default=list(ROLES), choices=ROLES)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        run_role(
            options.role,
            options.folder,
            options.batch_size[0],
            options.model,
            options.alphabet_size,
        )
        return
    lines = [line for line in options.lines if options.model in OF_NOTEBOOK or line != NOTEBOOK]
    of_model = ["--model", options.model, "--alphabet-size", str(options.alphabet_size)]
    images = options.images or options.model == "digit_pair"
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_pairs(Path(temporary) / "pairs", images=images, full=options.full)
        for batch_size in options.batch_size:
            found: dict[str, list[dict[str, float]]] = {line: [] for line in lines}
            for _ in range(options.rounds):
                for line in lines:
                    found[line].append(measure(*ROLES[line], folder, batch_size, *of_model))
            print_table(batch_size, found)


def print_table(batch_size: int, found: dict[str, list[dict[str, float]]]) -> None:
    """Medians over the rounds; ratios are to the first line, round by round."""
    first = next(iter(found.values()))
    print(f"\n| batch {batch_size} | pairs/s | ratio | first step, s | MB a process |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for line, rounds in found.items():
        ratios = [one["pairs"] / base["pairs"] for one, base in zip(rounds, first, strict=True)]
        middle = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        print(
            f"| {line} | {middle['pairs']:,.0f} | {statistics.median(ratios):.1f} | "
            f"{middle['first']:.0f} | {middle['megabytes']:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
