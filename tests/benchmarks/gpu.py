"""What a GPU computes beside a CPU, and how fast: `python -m tests.benchmarks.gpu [PART ...]`.

- `equality`: each model's loss, gradients and weights after 5 steps, on the GPU and on the CPU, in
  float32; TF32, which TensorFlow turns on by itself, is off, or on with `--tf32`.
- `speed`: pairs a second of `model.fit`, of the project's step, with XLA as Keras chooses it and
  without, and of the same model in plain Keras, fed with matrices and images as the notebook does.

Every part runs in a process of its own. It needs one GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sharedlayers_dist import TrainConfig, models
from sharedlayers_dist.training.model import PairModel
from sharedlayers_dist.training.trained_model import compile_for_training

TEXTS = ("tweet_pair", "character_cnn_pair", "character_gru_pair", "character_transformer_pair")
IMAGES = ("digit_pair", "residual_cnn_pair")
TIMED = ("tweet_pair", "character_cnn_pair", "digit_pair", "residual_cnn_pair")
VIEWS = ("plain", "compact", "compact without XLA")
BATCH_SIZES = (256, 2048)
MEAN_LENGTH = 84
SHARE_OF_ITEMS = 0.55
"""Different items for each side of a batch, of the project's own pairs of tweets."""
ROWS, STEPS = 32, 5
Batch = tuple[dict[str, NDArray], NDArray[np.float32]]


def draw_texts(rng: np.random.Generator, rows: int) -> NDArray[np.uint16]:
    """Ids of texts with their padding in front, `(rows, 280)`, as long as tweets are."""
    lengths = np.clip(rng.lognormal(np.log(MEAN_LENGTH) - 0.1, 0.45, rows).round(), 1, 280)
    ids = rng.integers(1, 257, (rows, 280)).astype("uint16")
    ids[np.arange(280) < 280 - lengths[:, None]] = 0
    return ids


def draw_batch(name: str, rng: np.random.Generator, rows: int) -> Batch:
    """A batch as the project reads it, with as many different items as its own pairs have."""
    num_items = round(2 * rows * SHARE_OF_ITEMS)
    if name in TEXTS:
        items: NDArray = draw_texts(rng, num_items)
    else:
        items = rng.integers(0, 256, (num_items, 27, 27, 1)).astype("uint8")
    a, b = items[rng.permutation(np.arange(2 * rows) % num_items)].reshape(
        2, rows, *items.shape[1:]
    )
    return {"a": a, "b": b}, rng.integers(0, 2, (rows, 1)).astype("float32")


def as_plain(model: keras.Model, batch: Batch) -> tuple[list[NDArray], NDArray[np.float32]]:
    """The same batch as the model itself takes it: matrices of floats, ids, pixels in [0, 1]."""
    sides = []
    for tensor, items in zip(model.inputs, batch[0].values(), strict=True):
        if tensor.dtype == "int32":
            sides.append(items.astype("int32"))
        elif items.ndim == 2:
            rows_of_alphabet = np.eye(tensor.shape[-1] + 1, dtype="float32")[:, 1:]
            sides.append(rows_of_alphabet[items])
        else:
            sides.append(items.astype("float32") / 255)
    return sides, batch[1]


def build(name: str, dropout: float | None = None) -> keras.Model:
    """Builds a pair model, its weights drawn from seed 0."""
    keras.utils.set_random_seed(0)
    options = (
        {} if name in ("tweet_pair", "digit_pair") or dropout is None else {"dropout": dropout}
    )
    return models.build(name, **options)


def trace(names: list[str], views: list[str], initial: Path | None, file: Path) -> None:
    """Writes what each model computes: loss, gradients, and the weights after some steps of SGD.

    Args:
        names: The models.
        views: Of VIEWS: the model itself or its compact view, with XLA where Keras chooses it.
        initial: A file that this function has written, to start from its weights: drawn anew, they
            may be others on another device.
        file: The file to write, .npz.
    """
    known = np.load(initial) if initial else None
    kept: dict[str, Any] = {}
    for name in names:
        for view in views:
            model = build(name, dropout=0.0)
            if known is not None:
                model.set_weights(take(known, f"{name}, {view}, initial weights"))
            case = f"{name}, {view}"
            keep(kept, f"{case}, initial weights", model.get_weights())
            try:
                trace_model(model, case, kept)
            except tf.errors.OpError as error:
                print(f"{case}: {type(error).__name__}: {error.message.splitlines()[0][:300]}")
    np.savez(file, **kept)


def trace_model(model: keras.Model, case: str, kept: dict[str, Any]) -> None:
    """Adds what one model computes to `kept`."""
    name, view = case.split(", ")
    run = model if view == "plain" else models.compact_view(model)
    jit_compile = False if view.endswith("without XLA") else "auto"
    run.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), "binary_crossentropy", jit_compile=jit_compile
    )
    rng = np.random.default_rng(1)
    batches: list[Any] = [draw_batch(name, rng, ROWS) for _ in range(STEPS)]
    if view == "plain":
        batches = [as_plain(model, batch) for batch in batches]

    @tf.function
    def differentiate(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = run.compute_loss(x, y, run(x, training=True))
        return loss, tape.gradient(loss, [v.value for v in model.trainable_variables])

    loss, gradients = differentiate(*tf.nest.map_structure(tf.constant, batches[0]))
    keep(kept, f"{case}, loss", [loss.numpy()])
    keep(kept, f"{case}, gradients", [tf.convert_to_tensor(g).numpy() for g in gradients])
    for x, y in batches:
        run.train_on_batch(x, y)
    keep(kept, f"{case}, trained weights", model.get_weights())
    print(f"{case}: traced, jit_compile={run.jit_compile}", flush=True)


def keep(kept: dict[str, Any], name: str, arrays: list[NDArray]) -> None:
    """Puts the arrays in under one name and their numbers."""
    kept.update({f"{name}/{i}": array for i, array in enumerate(arrays)})


def take(known: Any, name: str) -> list[NDArray]:
    """The arrays that `keep` has put in under a name, in their order."""
    names = [key for key in known if key.startswith(f"{name}/")]
    return [known[key] for key in sorted(names, key=lambda key: int(key.rpartition("/")[2]))]


def distance(arrays: list[NDArray], wanted: list[NDArray], zero: list[NDArray] | None) -> float:
    """The norm of what differs beside the norm of what is wanted, or of its way from `zero`."""
    zero = [np.zeros_like(x) for x in wanted] if zero is None else zero
    ways = [x.astype("float64") - z for x, z in zip(wanted, zero, strict=True)]
    differences = [x.astype("float64") - y for x, y in zip(arrays, wanted, strict=True)]
    return float(np.sqrt(sum((d**2).sum() for d in differences) / sum((w**2).sum() for w in ways)))


def compare(file: Path, wanted_file: Path) -> None:
    """Prints how far the figures of one file are from those of another."""
    figures, wanted = np.load(file), np.load(wanted_file)
    print(f"{'relative difference of':48} {'loss':>9} {'gradients':>9} {'5 updates':>9}")
    cases = dict.fromkeys(key.rpartition(",")[0] for key in figures)
    for case in cases:
        if not take(figures, f"{case}, trained weights"):
            print(f"{case:48} failed")
            continue
        initial = take(wanted, f"{case}, initial weights")
        told = [
            distance(take(figures, f"{case}, {part}"), take(wanted, f"{case}, {part}"), zero)
            for part, zero in (("loss", None), ("gradients", None), ("trained weights", initial))
        ]
        print(f"{case:48} " + " ".join(f"{x:9.1e}" for x in told))


class Clock(keras.callbacks.Callback):
    """Pairs per second of each epoch but the first; ends the training after some seconds."""

    def __init__(self, pairs_per_epoch: int, seconds: float) -> None:
        super().__init__()
        self.rates: list[float] = []
        self._pairs, self._left = pairs_per_epoch, seconds

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        took = time.perf_counter() - self._began
        if epoch > 0:
            self.rates.append(self._pairs / took)
            self._left -= took
            self.model.stop_training = self._left < 0


def time_fit(model: keras.Model, batches: list[Any], steps: int, seconds: float) -> float:
    """Pairs per second of `model.fit` over batches in the host's memory, the median of epochs."""
    x, y = tf.nest.map_structure(lambda *parts: np.stack(parts), *batches)
    data = tf.data.Dataset.from_tensor_slices((x, y)).repeat().prefetch(2)
    clock = Clock(steps * y.shape[1], seconds)
    model.fit(data, steps_per_epoch=steps, epochs=1000, verbose=0, callbacks=[clock])
    return statistics.median(clock.rates)


def time_model(name: str, batch_size: int, seconds: float) -> Iterator[tuple[str, float]]:
    """Pairs per second by what trains: plain Keras, and the project's step with XLA and without."""
    steps = 20 if batch_size <= 256 else 8
    rng = np.random.default_rng(0)
    batches = [draw_batch(name, rng, batch_size) for _ in range(4 if batch_size <= 256 else 2)]
    plain = build(name)
    plain.compile("rmsprop", "binary_crossentropy", metrics=["accuracy"])
    plain_batches: list[Any] = [
        (tuple(sides), label) for sides, label in (as_plain(plain, batch) for batch in batches)
    ]
    yield "plain Keras", time_fit(plain, plain_batches, steps, seconds)
    for told, jit_compile in (("project", "auto"), ("project without XLA", False)):
        config = TrainConfig(pairs="none", output="none", model=name)
        view = compile_for_training(PairModel(plain=build(name), compiled=None), config).view
        if not view.jit_compile and told != "project":
            continue
        view.jit_compile = view.jit_compile and jit_compile
        told += " (XLA)" if view.jit_compile else ""
        yield told, time_fit(view, batches, steps, seconds)


def measure_speed(names: list[str], batch_sizes: list[int], seconds: float) -> None:
    """Prints a line for each model, batch size and way to train."""
    for name in names:
        for batch_size in batch_sizes:
            plain = 0.0
            for told, rate in time_model(name, batch_size, seconds):
                plain = plain or rate
                print(
                    f"{name:22} batch {batch_size:5}  {told:20} {rate:10,.0f} pairs/s"
                    f"  {rate / plain:6.2f}",
                    flush=True,
                )


def run_alone(*arguments: str, **environment: str) -> None:
    """Runs this module in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.gpu", *arguments]
    subprocess.run(command, env=os.environ | environment, check=True)


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="equality, speed; both by default")
    parser.add_argument("--tf32", action="store_true", help="leave TF32 on")
    parser.add_argument("--seconds", type=float, default=3.0, help="each timing of speed takes")
    parser.add_argument("--models", nargs="*", choices=TEXTS + IMAGES)
    parser.add_argument("--views", nargs="*", choices=VIEWS, default=list(VIEWS))
    parser.add_argument("--batch-sizes", nargs="*", type=int, default=list(BATCH_SIZES))
    parser.add_argument("--initial", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    tf.config.experimental.enable_tensor_float_32_execution(options.tf32)
    if options.parts == ["trace"]:
        trace(options.models, options.views, options.initial, options.file)
        return
    if "equality" in (options.parts or ["equality"]):
        with tempfile.TemporaryDirectory() as folder:
            cpu, gpu = f"{folder}/cpu.npz", f"{folder}/gpu.npz"
            chosen = ["--models", *(options.models or TEXTS + IMAGES), "--views", *options.views]
            run_alone("trace", *chosen, "--file", cpu, CUDA_VISIBLE_DEVICES="")
            tf32 = ["--tf32"] if options.tf32 else []
            run_alone("trace", *chosen, "--initial", cpu, "--file", gpu, *tf32)
            compare(Path(gpu), Path(cpu))
    if "speed" in (options.parts or ["speed"]):
        measure_speed(options.models or list(TIMED), options.batch_sizes, options.seconds)


if __name__ == "__main__":
    main()
