"""Checks that the zoo's models train over ranks as in one process, with XLA and without.

Each check is made to fail, too: without a reduction, and with a mean of the ranks' means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from sharedlayers_dist import dist, models
from sharedlayers_dist.world import World
from tests.distributed.workers.small import ONE, assert_close, fit

SIZES = (5, 4)
"""Rows of the global batches; on two and on three ranks a share differs from the others."""
SMALL = (12, 12, 3)
"""Images for the models whose weights do not depend on the size, instead of 256 x 256."""


class Samples(keras.utils.PyDataset):
    """A rank's share of random batches that fit a model."""

    def __init__(self, world: World, draw: Callable[[np.random.Generator, int], Any]) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self._batches = [
            keras.tree.map_structure(
                lambda a: np.array_split(a.astype("float32"), world.size)[world.rank],
                draw(rng, rows),
            )
            for rows in SIZES
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def _check(world: World, name: str, draw: Callable[..., Any], loss: str, small: bool) -> None:
    def build() -> keras.Model:
        keras.utils.set_random_seed(1)
        model = models.build(name)
        if small:
            model = keras.models.clone_model(model, input_tensors=keras.Input(SMALL))
        return model

    options: dict[str, Any] = {
        "build": build,
        "data": lambda world: Samples(world, draw),
        "optimizer": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        "loss": loss,
        "epochs": 1,
    }
    expected, _ = fit(ONE, **options)
    for jit_compile in ("auto", False, True):
        model, _ = fit(world, jit_compile=jit_compile, **options)
        assert_close(model, expected, rtol=2e-4)
    for spoil in (_reduce_nothing, _take_mean_of_means):
        with pytest.raises((AssertionError, RuntimeError), match=r"Not equal|no longer hold"):
            assert_close(fit(world, prepare=spoil, **options)[0], expected, rtol=2e-4)


def _reduce_nothing(model: keras.Model) -> None:
    model.optimizer._distribution.is_reduced = True


def _take_mean_of_means(model: keras.Model) -> None:
    dist.prepare(model, num_samples=lambda x, y, sample_weight: 1.0)


def _pair(rng: np.random.Generator, rows: int, draw_side: Callable[[], Any]) -> Any:
    return {"a": draw_side(), "b": draw_side()}, rng.integers(0, 2, (rows, 1))


def _targets(rng: np.random.Generator, rows: int, *shape: int) -> np.ndarray:
    """Draws targets that differ so much over samples that every mean of gradients is another."""
    return rng.random((rows, *shape)) * rng.uniform(-30, 30, (rows, 1, 1, 1))


def case_tweet_pair(world: World) -> None:
    def draw(rng: np.random.Generator, rows: int) -> Any:
        return _pair(rng, rows, lambda: np.eye(256)[rng.integers(0, 256, (rows, 280))])

    _check(world, "tweet_pair", draw, "binary_crossentropy", small=False)


def case_digit_pair(world: World) -> None:
    def draw(rng: np.random.Generator, rows: int) -> Any:
        return _pair(rng, rows, lambda: rng.random((rows, 27, 27, 1)))

    _check(world, "digit_pair", draw, "binary_crossentropy", small=False)


def case_shared_conv(world: World) -> None:
    def draw(rng: np.random.Generator, rows: int) -> Any:
        sides = [rng.random((rows, side, side, 3)) for side in (32, 64)]
        return dict(zip("cd", sides, strict=True)), tuple(
            _targets(rng, rows, side, side, 16) for side in (32, 64)
        )

    _check(world, "shared_conv", draw, "mse", small=False)


def case_inception(world: World) -> None:
    def draw(rng: np.random.Generator, rows: int) -> Any:
        return rng.random((rows, *SMALL)), _targets(rng, rows, 36, 12, 64)

    _check(world, "inception", draw, "mse", small=True)


def case_residual(world: World) -> None:
    def draw(rng: np.random.Generator, rows: int) -> Any:
        return rng.random((rows, *SMALL)), _targets(rng, rows, *SMALL)

    _check(world, "residual", draw, "mse", small=True)
