"""Every optimizer and option, in a training loop of one's own, on a share of each batch.

Command line: output folder, names of cases. Each process writes all weights and slots to one file.
With one process a case is what the ranks must equal: whole batches, and for options that change
what a step is, that step written out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import dist

BATCH_SIZES = (12, 12, 7, 12, 5, 12)  # The shares of 7 and 5 are unequal on 2 and 3 ranks.
IDS, FEATURES, UNITS = 6, 5, 4
SPARSE = ("Adam", "SGD", "Adagrad")  # Keras itself fails on others' sparse gradients, e.g. RMSprop.


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to train."""

    optimizer: Callable[[], keras.optimizers.Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    """Of DistributedOptimizer, where it does not depend on Horovod being imported."""
    passes: int = 1
    is_joined: bool = True
    """Whether one process takes what belongs to a step as one batch, and so is what to equal."""
    is_sum: bool = False
    """Whether the loss sums over its batch instead of taking the mean."""
    breaks: str = ""
    """`none` leaves out the reduction, `mean_of_means` the counts; only over several ranks."""
    is_sparse: bool = False
    """Whether the first layer is an embedding, with `tf.IndexedSlices` for a gradient."""


def make_cases() -> dict[str, Case]:
    """Returns all cases by name."""
    makers: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
        "SGD": lambda **k: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, **k),
        "RMSprop": lambda **k: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True, **k),
        "Adam": lambda **k: keras.optimizers.Adam(0.01, amsgrad=True, **k),
        "AdamW": lambda **k: keras.optimizers.AdamW(0.01, **k),
        "Adagrad": lambda **k: keras.optimizers.Adagrad(0.1, **k),
        "Adadelta": lambda **k: keras.optimizers.Adadelta(0.5, **k),
        "Adamax": lambda **k: keras.optimizers.Adamax(0.01, **k),
        "Adafactor": lambda **k: keras.optimizers.Adafactor(0.1, **k),
        "Ftrl": lambda **k: keras.optimizers.Ftrl(0.1, **k),
        "Lamb": lambda **k: keras.optimizers.Lamb(0.01, **k),
        "Lion": lambda **k: keras.optimizers.Lion(0.01, **k),
        "Muon": lambda **k: keras.optimizers.Muon(0.01, **k),
        "Nadam": lambda **k: keras.optimizers.Nadam(0.01, **k),
        "ScheduleFreeAdamW": lambda **k: keras.optimizers.ScheduleFreeAdamW(0.01, **k),
    }
    together: dict[str, Any] = {"global_clipnorm": 0.5, "weight_decay": 0.01, "use_ema": True}
    cases = {name: Case(optimizer=make) for name, make in makers.items()}
    for name, make in makers.items():
        cases[f"{name} with options"] = Case(
            optimizer=partial(make, **together, ema_overwrite_frequency=4)
        )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    keras_options: dict[str, dict[str, Any]] = {
        "clipnorm": {"clipnorm": 0.1},
        "clipvalue": {"clipvalue": 0.05},
        "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
        "loss_scale_factor": {"loss_scale_factor": 8.0},
    }
    for name, options in keras_options.items():
        cases[name] = Case(optimizer=partial(makers["Adam"], **options))
    cases["schedule"] = Case(optimizer=lambda: keras.optimizers.SGD(schedule, momentum=0.9))
    for name in SPARSE:
        cases[f"sparse {name}"] = Case(optimizer=makers[name], is_sparse=True)
    cases |= _make_cases_of_options(makers["Adam"], makers["SGD"])
    for name, case in list(cases.items()):
        cases[f"{name}: none"] = replace(case, breaks="none")
        if not case.is_sum:  # A sum is not weighted by counts.
            cases[f"{name}: mean_of_means"] = replace(case, breaks="mean_of_means")
        if case.passes > 1:
            cases[f"{name}: one by one"] = replace(case, is_joined=False)
    return cases


def _make_cases_of_options(
    adam: Callable[..., keras.optimizers.Optimizer], sgd: Callable[..., keras.optimizers.Optimizer]
) -> dict[str, Case]:
    """Returns those of what `DistributedOptimizer` can be told."""
    return {
        "passes summed": Case(optimizer=adam, passes=2),
        "passes averaged": Case(
            optimizer=adam, passes=3, options={"average_aggregated_gradients": True}
        ),
        "passes of sparse": Case(optimizer=adam, passes=2, is_sparse=True),
        "sum": Case(optimizer=adam, options={"op": dist.Sum}, is_sum=True),
        "sum of sparse": Case(
            optimizer=adam, options={"op": dist.Sum}, is_sum=True, is_sparse=True
        ),
        "sum over passes": Case(optimizer=adam, options={"op": dist.Sum}, is_sum=True, passes=2),
        "predivide": Case(optimizer=adam, options={"gradient_predivide_factor": 2.0}),
        "sparse as dense": Case(optimizer=adam, options={"sparse_as_dense": True}, is_sparse=True),
        "two groups": Case(optimizer=adam, options={"groups": 2}),
        "groups of variables": Case(optimizer=adam, options={"groups": "first and last"}),
        "fp16": Case(optimizer=sgd, options={"compression": "fp16"}),
    }


def make_variables(is_sparse: bool) -> list[keras.Variable]:
    rng = np.random.default_rng(1)
    shapes = [(IDS, UNITS) if is_sparse else (FEATURES, UNITS), (UNITS,), (UNITS, 1)]
    return [keras.Variable(rng.normal(size=s), name=f"v{i}") for i, s in enumerate(shapes)]


def make_batches(is_sparse: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(2)
    batches = []
    for rows in BATCH_SIZES:
        x = rng.integers(0, IDS, (rows, 3)) if is_sparse else rng.normal(size=(rows, FEATURES))
        batches.append((x, rng.normal(size=(rows, 1))))
    return batches


def run(case: Case, world: Any) -> list[np.ndarray]:
    """Returns the variables and the optimizer's after training on all batches."""
    variables = make_variables(case.is_sparse)
    optimizer = case.optimizer()
    is_joined = world.size == 1 and case.passes > 1 and case.is_joined
    options = dict(case.options, backward_passes_per_step=1 if is_joined else case.passes)
    if options.get("groups") == "first and last":
        options["groups"] = [variables[:1], variables[1:]]
    if options.pop("compression", None) and world.size > 1:
        from horovod.tensorflow import Compression

        options["compression"] = Compression.fp16
    optimizer = dist.DistributedOptimizer(optimizer, **options)
    optimizer.build(variables)
    if world.size > 1 and case.breaks == "none":
        optimizer._distribution.is_reduced = True
    # Keras treats a repeated index in its own way, so one process must make it dense, too.
    is_made_dense = is_joined or (world.size == 1 and "sparse_as_dense" in options)
    scale = 1.0
    batches = make_batches(case.is_sparse)
    if world.size > 1:
        batches = [
            tuple(np.array_split(part, world.size)[world.rank] for part in batch)
            for batch in batches
        ]
    elif is_joined:
        groups = zip(*[iter(batches)] * case.passes, strict=True)
        batches = [
            (np.concatenate([x for x, _ in group]), np.concatenate([y for _, y in group]))
            for group in groups
        ]
        if not case.is_sum and "average_aggregated_gradients" not in case.options:
            scale = float(case.passes)

    @tf.function(reduce_retracing=True)
    def step(x: tf.Tensor, y: tf.Tensor) -> None:
        first, bias, last = (v.value for v in variables)
        with tf.GradientTape() as tape:
            hidden = tf.reduce_sum(tf.gather(first, x), axis=1) if case.is_sparse else x @ first
            errors = tf.square(tf.tanh(hidden + bias) @ last - y)
            loss = tf.reduce_sum(errors) if case.is_sum else tf.reduce_mean(errors)
            loss = optimizer.scale_loss(loss * scale)
        gradients = tape.gradient(loss, [first, bias, last])
        if is_made_dense:
            gradients[0] = tf.convert_to_tensor(gradients[0])
        with dist.local_batch(1 if case.breaks == "mean_of_means" else tf.shape(x)[0]):
            optimizer.apply(gradients, variables)

    for x, y in batches:
        step(tf.constant(x), tf.constant(y))
    return [np.asarray(v) for v in [*variables, *optimizer.variables]]


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    keras.config.set_floatx("float64")  # Sign-like updates must not hang on rounding.
    world = dist.init()
    arrays = {}
    cases = make_cases()
    for name in names:
        case = cases[name]
        started = time.monotonic()
        for i, array in enumerate(run(case, world)):
            arrays[f"{name}/{i}"] = array
        print(f"{time.monotonic() - started:5.1f} s  {name}", flush=True)
    np.savez(folder / f"{world.size}.{world.rank}.npz", allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
