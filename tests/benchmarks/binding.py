"""What the binding costs per step, against Horovod's bare grouped reduction of the same tensors.

Run `python -m tests.benchmarks.binding`; it starts two ranks over Gloo on this machine.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sharedlayers_dist import dist
from sharedlayers_dist.quiet import holding_back_notes

with holding_back_notes():
    import keras
    import tensorflow as tf

MODELS: dict[str, list[tuple[int, ...]]] = {
    "82 thousand weights": [(256, 256), (64, 256), (256,), (128, 1), (1,)],
    "20 million weights": [(1024, 4096), (4096, 2048), (2048, 3072), (3072, 256), (256, 1024)],
}
ROUNDS, STEPS = 15, 12
ROWS = 128


def make_step(shapes: list[tuple[int, ...]], *, is_bare: bool) -> tuple[Callable[[], None], Any]:
    """Returns a function that makes one step, and the optimizer."""
    variables = [keras.Variable(np.zeros(s, "float32")) for s in shapes]
    gradients = [
        tf.Variable(np.random.default_rng(0).normal(size=s), dtype="float32") for s in shapes
    ]
    rows = tf.Variable(ROWS)
    optimizer = keras.optimizers.SGD(1e-3)
    if is_bare:
        import horovod.tensorflow as hvd
    else:
        optimizer = dist.DistributedOptimizer(optimizer)
    optimizer.build(variables)

    @tf.function
    def step() -> None:
        local = [g.read_value() for g in gradients]
        if is_bare:
            reduced = hvd.grouped_allreduce(local, op=hvd.Average)
            optimizer.apply(reduced, variables)
        else:
            with dist.local_batch(rows.read_value()):
                optimizer.apply(local, variables)

    return step, step.get_concrete_function().graph


def count_reductions(graph: Any) -> tuple[int, int]:
    """Returns Horovod's operations in every step, and those only where batches are unequal."""
    always = [op for op in graph.get_operations() if op.type.startswith("Horovod")]
    in_branches = [
        node
        for function in graph.as_graph_def().library.function
        for node in function.node_def
        if node.op.startswith("Horovod")
    ]
    return len(always), len(in_branches)


def time_steps(step: Callable[[], object], steps: int = STEPS) -> float:
    """Returns milliseconds per step."""
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - started) / steps * 1e3


def compare(name: str, shapes: list[tuple[int, ...]]) -> None:
    """Prints the cost of a step of the binding, and of a bare one, in turns."""
    bare, _ = make_step(shapes, is_bare=True)
    own, graph = make_step(shapes, is_bare=False)
    always, in_branches = count_reductions(graph)
    pairs = []
    for step in (bare, own):
        time_steps(step)
    for number in range(ROUNDS):
        order = (bare, own) if number % 2 else (own, bare)
        times = {step: time_steps(step) for step in order}
        pairs.append((times[bare], times[own]))
    ratio = statistics.median(b / a for a, b in pairs)
    if dist.rank() == 0:
        print(
            f"{name}: bare {statistics.median(a for a, _ in pairs):.2f} ms, "
            f"binding {statistics.median(b for _, b in pairs):.2f} ms, ratio {ratio:.3f}; "
            f"reductions per step {always}, {in_branches} more where batches are unequal",
            flush=True,
        )


def measure_callbacks(name: str, units: int) -> None:
    """Prints what one comparison of the guard and one exact epoch of metrics cost."""
    inputs = keras.Input((1024,))
    x = keras.layers.Dense(units, activation="relu")(inputs)
    x = keras.layers.Dense(units, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile(
        dist.DistributedOptimizer(keras.optimizers.Adam()),
        "binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC()],
    )
    dist.prepare(model)
    data = np.ones((ROWS, 1024), "float32"), np.ones((ROWS, 1), "float32")
    model.train_on_batch(*data)
    guard = dist.ReplicaGuard(every=1)
    guard.set_model(model)
    guard.on_train_begin()
    guard.on_train_batch_end(0)
    step = statistics.median(time_steps(lambda: model.train_on_batch(*data), 3) for _ in range(5))
    check = statistics.median(time_steps(lambda: guard.on_train_batch_end(0), 3) for _ in range(5))
    exact = statistics.median(time_steps(lambda: dist.exact_metrics(model), 3) for _ in range(5))
    if dist.rank() == 0:
        every = dist.ReplicaGuard()._every
        print(
            f"{name}, Adam, {ROWS} rows: step {step:.1f} ms; one comparison of the guard "
            f"{check:.1f} ms, {check / step / every:.3%} of the time at every {every} steps; "
            f"exact metrics {exact:.1f} ms per epoch",
            flush=True,
        )


class AddUp(keras.callbacks.Callback):
    """Adds up three numbers over the ranks after each step, in an exchange of their own."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        dist.HorovodCollectives().sum([0, 1, 0])


class Tell(keras.callbacks.Callback):
    """Adds up three numbers over the ranks in each step, beside its gradients."""

    def __init__(self) -> None:
        super().__init__()
        self._flags = dist.StepFlags(3)

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        dist.prepare(model, flags=self._flags)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._flags.set([0, 1, 0])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._flags.sums()


def measure_telling(name: str, units: int) -> None:
    """Prints what a step costs with and without an exchange of its own for a few numbers."""
    fits = []
    for callback in (AddUp(), Tell()):
        inputs = keras.Input((256,))
        x = keras.layers.Dense(units, activation="relu")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
        model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "binary_crossentropy")
        dist.prepare(model)
        rows = ROWS * STEPS
        data = np.ones((rows, 256), "float32"), np.ones((rows, 1), "float32")
        fits.append(
            functools.partial(
                model.fit, *data, batch_size=ROWS, verbose=0, shuffle=False, callbacks=[callback]
            )
        )
        fits[-1]()
    pairs = []
    for number in range(ROUNDS):
        order = fits if number % 2 else fits[::-1]
        times = {fit: time_steps(fit, 1) / STEPS for fit in order}
        pairs.append((times[fits[0]], times[fits[1]]))
    ratio = statistics.median(b / a for a, b in pairs)
    if dist.rank() == 0:
        print(
            f"{name}, fit: a step with an exchange of its own "
            f"{statistics.median(a for a, _ in pairs):.2f} ms, with numbers beside the gradients "
            f"{statistics.median(b for _, b in pairs):.2f} ms, ratio {ratio:.3f}",
            flush=True,
        )


def main() -> None:
    if "HOROVOD_SIZE" not in os.environ:
        from tests.distributed.launcher import run_ranks

        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        print(run_ranks("tests.benchmarks.binding", 2, timeout=600, env=quiet)[0].output)
        return
    dist.init()
    keras.utils.set_random_seed(0)
    for name, shapes in MODELS.items():
        count = sum(int(np.prod(s)) for s in shapes)
        compare(f"{name} ({count})", shapes)
    measure_telling("82 thousand weights", 320)
    measure_telling("2 million weights", 8000)
    measure_callbacks("82 thousand weights", 72)
    measure_callbacks("20 million weights", 4000)


if __name__ == "__main__":
    main()
