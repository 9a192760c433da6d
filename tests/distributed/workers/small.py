"""A small model and its data, for checks that compare ranks with one process, on the spot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest

from sharedlayers_dist import dist
from sharedlayers_dist.world import World

SIZES = (12, 12, 7, 12, 5)
"""Rows of the global batches; shares of 7 and 5 are unequal on 2 and 3 ranks."""
ONE = World()


class Rows(keras.utils.PyDataset):
    """A rank's contiguous share of each global batch of `(x, y, weight)`."""

    def __init__(
        self, world: World, *, sizes: Sequence[int] = SIZES, shape: tuple[int, ...] = (5,)
    ) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self._batches = []
        for rows in sizes:
            x = rng.normal(size=(rows, *shape)).astype("float32")
            y = (x.reshape(rows, -1).sum(axis=1, keepdims=True) > 0).astype("float32")
            weight = rng.uniform(0.2, 3, rows).astype("float32")
            self._batches.append(
                tuple(np.array_split(part, world.size)[world.rank] for part in (x, y, weight))
            )

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return self._batches[index]


@functools.cache
def all_but_the_last(size: int) -> Any:
    """The process set of all ranks but the last; Horovod makes each set once."""
    import horovod.tensorflow as hvd

    return hvd.add_process_set(list(range(size - 1)))


def make_model(seed: int = 0, **dense: Any) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(8, activation="tanh", **dense),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )


def distributed(optimizer: keras.optimizers.Optimizer, world: World) -> Any:
    """Returns a distributed optimizer for several ranks, a plain one for the world of one."""
    return dist.DistributedOptimizer(optimizer) if world.size > 1 else optimizer


def fit(
    world: World,
    *,
    build: Callable[[], keras.Model] = make_model,
    data: Callable[[World], keras.utils.PyDataset] = Rows,
    optimizer: Callable[[], keras.optimizers.Optimizer] = lambda: keras.optimizers.Adam(0.05),
    loss: Any = "binary_crossentropy",
    callbacks: list[keras.callbacks.Callback] | None = None,
    prepare: Callable[[keras.Model], Any] = lambda model: None,
    epochs: int = 2,
    metrics: Callable[[], list[Any]] = list,
    **compile_options: Any,
) -> tuple[keras.Model, dict[str, list[float]]]:
    """Trains on a world's shares; in the world of one it is what ranks are compared with."""
    model = build()
    model.compile(
        distributed(optimizer(), world), loss, metrics=metrics() or None, **compile_options
    )
    if world.size > 1:
        prepare(model)
        callbacks = [*dist.default_callbacks(), *(callbacks or [])]
    history = model.fit(
        data(world), epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    ).history
    return model, history


def state(model: keras.Model) -> list[np.ndarray]:
    variables = [*model.weights, *model.optimizer.variables]
    return [np.asarray(v.numpy()) for v in variables]


def assert_close(model: keras.Model, expected: keras.Model, rtol: float = 5e-5) -> None:
    """Asserts that weights and optimizer state are equal to rounding in float32."""
    got, wanted = state(model), state(expected)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol / 10)


def assert_equals_one(world: World, **options: Any) -> tuple[keras.Model, dict[str, list[float]]]:
    """Trains on the ranks' shares and on whole batches, and asserts that both end alike."""
    model, logs = fit(world, **options)
    expected, expected_logs = fit(ONE, **options)
    assert_close(model, expected)
    for name, values in expected_logs.items():
        np.testing.assert_allclose(logs[name], values, rtol=2e-5, err_msg=name)
    return model, logs


def raises(kind: type[BaseException], pattern: str, call: Callable[[], Any]) -> None:
    """Asserts that `call` raises, with a message that the pattern is found in."""
    with pytest.raises(kind, match=f"(?s){pattern}"):
        call()
