"""Checks of losses that compare the rows of a batch: ranks end where one process ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import dist, losses
from sharedlayers_dist.dist.gradients.gathering import RowsOfRanks
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.world import World
from tests.distributed.workers.small import (
    ONE,
    assert_close,
    assert_equals_one,
    distributed,
    fit,
    raises,
)

SIZES = (14, 14, 3, 14, 9)
"""Rows of the global batches: unequal shares, and with 4 ranks one of them without rows."""
FEATURES = 6


class Items(keras.utils.PyDataset):
    """A rank's contiguous share of each global batch of items, their groups, and weights.

    A rank without rows gets one of padding: group -1, weight 0.
    """

    def __init__(self, world: World, *, shape: tuple[int, ...] = (FEATURES,)) -> None:
        super().__init__()
        rng = np.random.default_rng(1)
        self._batches = []
        for rows in SIZES:
            x = rng.normal(size=(rows, *shape)).astype("float32")
            y = self.targets(rows, rng)
            weight = rng.uniform(0.2, 3, rows).astype("float32")
            weight[0] = 0  # Still a positive and a negative of others.
            own = [np.array_split(part, world.size)[world.rank] for part in (x, y, weight)]
            if not len(own[0]):
                own = [np.zeros_like(x[:1]), np.full_like(y[:1], -1), np.zeros(1, "float32")]
            self._batches.append(tuple(own))

    def targets(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, 4, (rows, 1))

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        return self._batches[index]


class Pairs(Items):
    """The rows are both sides of pairs."""

    def __init__(self, world: World) -> None:
        super().__init__(world, shape=(2, FEATURES))


class LabelledPairs(Pairs):
    """The targets are labels; padding has the weight 0."""

    def targets(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        return (np.arange(rows) % 2)[:, None]


def make_encoder(shape: tuple[int, ...] = (FEATURES,), **dense: Any) -> keras.Model:
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Dense(8, activation="tanh", kernel_regularizer="l2", **dense),
            keras.layers.Dense(5),
        ]
    )


def make_distance() -> keras.Model:
    encoder = make_encoder()
    sides = keras.Input((2, FEATURES))
    cosine = keras.layers.Dot(axes=-1, normalize=True)([encoder(sides[:, 0]), encoder(sides[:, 1])])
    return keras.Model(sides, 1 - cosine)


def make_pair_encoder() -> keras.Model:
    return make_encoder((2, FEATURES))


KINDS: dict[str, tuple[Callable[[], keras.losses.Loss], Any, Any]] = {
    "triplet_of_all": (lambda: losses.Triplet(1.0, mining="all"), make_encoder, Items),
    "triplet_of_hard": (lambda: losses.Triplet(1.0, mining="hard"), make_encoder, Items),
    "triplet_of_semi_hard": (losses.Triplet, make_encoder, Items),
    "supervised_contrastive": (losses.SupervisedContrastive, make_encoder, Items),
    "multi_similarity": (losses.MultiSimilarity, make_encoder, Items),
    "in_batch_negatives": (losses.InBatchNegatives, make_pair_encoder, Pairs),
    "sigmoid_pairs": (losses.SigmoidPairs, make_pair_encoder, Pairs),
    "online_contrastive": (
        functools.partial(losses.OnlineContrastive, positive_label=1),
        make_distance,
        LabelledPairs,
    ),
    "cosent": (losses.CoSENT, make_distance, LabelledPairs),
}
MINI_BATCHES = (1, 2, 7)
"""Into how many parts a batch of 14 rows is cut."""


def _count(x: Any, y: Any, sample_weight: Any) -> tf.Tensor:
    return tf.math.count_nonzero(tf.cast(y, tf.int32) >= 0)


def _options(kind: str) -> dict[str, Any]:
    loss, build, data = KINDS[kind]
    # Adam divides by the size of the gradient, and makes its rounding count; so do steps so large
    # that the loss of exponentials goes up and down.
    rate = 0.01 if kind == "cosent" else 0.1
    return {
        "loss": loss(),
        "build": build,
        "data": data,
        "optimizer": functools.partial(keras.optimizers.SGD, rate, momentum=0.9),
    }


def _check(world: World, kind: str, sizes: Iterable[int | None]) -> None:
    """Asserts that ranks with mini-batches of these sizes end where one process ends."""
    options = _options(kind)
    expected, expected_logs = fit(ONE, **options)
    for size in sizes:
        prepare = functools.partial(dist.prepare, num_samples=_count, mini_batch_size=size)
        model, logs = fit(world, prepare=prepare, **options)
        assert_close(model, expected)
        np.testing.assert_allclose(logs["loss"], expected_logs["loss"], rtol=2e-5)


def _size_of_part(world: World, parts: int) -> int:
    return -(-14 // (world.size * parts))


def _make_cases(kind: str, parts: int) -> dict[str, Callable[[World], None]]:
    def case(world: World) -> None:
        _check(world, kind, (None, _size_of_part(world, parts)))

    def in_other_parts(world: World) -> None:
        others = (_size_of_part(world, p) for p in MINI_BATCHES if p != parts)
        _check(world, kind, others)

    return {f"case_{kind}": case, f"case_{kind}_in_other_parts": in_other_parts}


for _number, _kind in enumerate(KINDS):
    globals().update(_make_cases(_kind, MINI_BATCHES[_number % 3]))


def case_validation_of_a_global_loss(world: World) -> None:
    options = _options("supervised_contrastive")
    build, data, loss = options["build"], options["data"], options["loss"]
    logs = []
    for place in (world, ONE):
        model = build()
        model.compile(distributed(keras.optimizers.SGD(0.1), place), loss)
        if place.size > 1:
            dist.prepare(model, num_samples=_count)
        callbacks = dist.default_callbacks() if place.size > 1 else []
        history = model.fit(
            data(place), validation_data=data(place), verbose=0, callbacks=callbacks, shuffle=False
        )
        logs.append(history.history)
    assert "val_loss" in logs[0]
    for name, values in logs[1].items():
        np.testing.assert_allclose(logs[0][name], values, rtol=2e-5, err_msg=name)


def case_global_losses_by_xla(world: World) -> None:
    options = _options("supervised_contrastive") | {"jit_compile": True}
    expected, _ = fit(ONE, **_options("supervised_contrastive"))
    for size in (None, 3):
        prepare = functools.partial(dist.prepare, num_samples=_count, mini_batch_size=size)
        model, _ = fit(world, prepare=prepare, **options)
        assert_close(model, expected)
        assert model.jit_compile


def case_global_losses_accumulate_and_clip(world: World) -> None:
    """Clipping sees the gradient of the global batch; the regularizer is in it once."""
    options = _options("in_batch_negatives")
    clipped = functools.partial(keras.optimizers.SGD, 0.1, global_clipnorm=0.05)
    assert_equals_one(
        world,
        **options | {"optimizer": clipped},
        prepare=functools.partial(dist.prepare, num_samples=_count),
    )


@contextmanager
def _broken(name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowsOfRanks, name, value)
        yield


def case_a_broken_gather_is_noticed(world: World) -> None:
    """Of the gradient its scale and its rows; of the masking the groups of other ranks."""
    plain_gather = RowsOfRanks.gather

    def unscaled(self: Any, gradient: Any) -> Any:
        return self._own_rows(gradient)

    def of_the_first_rank(self: Any, gradient: Any) -> Any:
        own = gradient[: self._rows] * tf.cast(self._all_samples, gradient.dtype)
        return tf.math.divide_no_nan(own, tf.cast(self._samples, gradient.dtype))

    def without_groups(self: Any, x: Any) -> Any:
        gathered = plain_gather(self, x)
        if x.dtype.is_floating:
            return gathered
        number = tf.cast(tf.range(tf.shape(gathered)[0])[:, None], x.dtype)
        is_own = (number >= tf.cast(self._begin, x.dtype)) & (
            number < tf.cast(self._begin + self._rows, x.dtype)
        )
        return tf.where(is_own, gathered, gathered + 1000)

    broken = {
        "_gradient_of_own": (unscaled, of_the_first_rank),
        "gather": (without_groups,),
    }
    options = _options("supervised_contrastive")
    expected, _ = fit(ONE, **options)
    for name, values in broken.items():
        for value in values:
            with _broken(name, value):
                prepare = functools.partial(dist.prepare, num_samples=_count)
                model, _ = fit(world, prepare=prepare, **options)
            with pytest.raises(AssertionError):
                assert_close(model, expected)


def case_a_mean_of_means_is_noticed(world: World) -> None:
    """Where each rank takes the loss of its own rows, and these are averaged."""
    options = _options("supervised_contrastive")
    local = losses.SupervisedContrastive()
    local.needs_global_batch = False
    model, _ = fit(
        world,
        prepare=functools.partial(dist.prepare, num_samples=_count),
        **options | {"loss": local},
    )
    expected, _ = fit(ONE, **options)
    with pytest.raises(AssertionError):
        assert_close(model, expected)


def case_gather_in_ones_own_step(world: World) -> None:
    """Whether each rank computes the whole loss or its rows' part, weights are those of one."""
    sizes = [5, 1, 4, 0][: world.size]
    bounds = np.cumsum([0, *sizes])
    rng = np.random.default_rng(2)
    x = rng.normal(size=(bounds[-1], FEATURES)).astype("float32")
    own = slice(bounds[world.rank], bounds[world.rank + 1])

    def part(all_rows: tf.Tensor, rows: slice) -> tf.Tensor:
        """Each row's part depends on all rows."""
        return tf.reduce_sum(tf.math.exp(tf.matmul(all_rows[rows], all_rows, transpose_b=True)), 1)

    def one() -> list[np.ndarray]:
        model = make_encoder()
        optimizer = keras.optimizers.SGD(0.01)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(part(model(x), slice(None)))
        weights = model.trainable_weights
        optimizer.apply(tape.gradient(loss, weights), weights)
        return model.get_weights()

    def ranks(*, of_own_rows: bool) -> list[np.ndarray]:
        model = make_encoder()
        optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(0.01))

        @tf.function
        def step(rows: tf.Tensor) -> None:
            with dist.local_batch(tf.shape(rows)[0]):
                with tf.GradientTape() as tape:
                    everyone = dist.gather(model(rows))
                    parts = part(everyone, own if of_own_rows else slice(None))
                    loss = tf.math.divide_no_nan(
                        tf.reduce_sum(parts), tf.cast(tf.size(parts), tf.float32)
                    )
                gradients = tape.gradient(loss, model.trainable_weights)
                optimizer.apply(gradients, model.trainable_weights)

        step(tf.constant(x[own]))
        return model.get_weights()

    expected = one()
    for of_own_rows in (False, True):
        for a, b in zip(ranks(of_own_rows=of_own_rows), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def case_gather_keeps_types_and_order(world: World) -> None:
    for dtype in (tf.int64, tf.int32, tf.bool, tf.float16, tf.bfloat16, tf.float32, tf.float64):
        rows = tf.cast(tf.fill((world.rank + 1, 2), world.rank), dtype)
        gathered = dist.gather(rows)
        assert gathered.dtype == dtype
        expected = np.repeat(np.arange(world.size), np.arange(1, world.size + 1))
        found = tf.cast(gathered, tf.int32).numpy()[:, 0]
        np.testing.assert_array_equal(found, expected > 0 if dtype == tf.bool else expected)


def case_global_losses_are_refused_where_they_cannot_be(world: World) -> None:
    del world
    options = _options("supervised_contrastive")

    def train(op: str = dist.Average, **prepare: Any) -> None:
        model = make_encoder()
        optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(), op=op)
        model.compile(optimizer, options["loss"])
        dist.prepare(model, **prepare)
        model.fit(Items(ONE), verbose=0)

    raises(UserError, "global batch is the same on all ranks.*Use Distrib", lambda: train("sum"))
    raises(UserError, "Received: mini_batch_size=0", lambda: train(mini_batch_size=0))
