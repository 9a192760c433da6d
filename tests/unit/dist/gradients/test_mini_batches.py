"""A batch in parts: loss, weights and random numbers of the whole batch, with less memory."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from sharedlayers_dist import dist, losses
from sharedlayers_dist.dist.gradients import mini_batches
from sharedlayers_dist.errors import UserError

ROWS, LENGTH = 14, 6
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 9, (ROWS, LENGTH))
GROUPS = (np.arange(ROWS) % 4)[:, None]


def make_encoder(**options: Any) -> keras.Model:
    """An embedding gives sparse gradients; one layer is frozen, and one has no part in the loss."""
    keras.utils.set_random_seed(1)
    ids = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(9, 8)(ids)
    x = keras.layers.GRU(8, kernel_regularizer="l2", **options)(x)
    x = keras.layers.Dense(8, trainable=False)(x)
    return keras.Model(ids, keras.layers.Dense(4)(x))


def train(
    mini_batch_size: int | None,
    build: Callable[[], keras.Model] = make_encoder,
    loss: Any = None,
    y: np.ndarray = GROUPS,
    x: Any = IDS,
    **options: Any,
) -> tuple[list[np.ndarray], list[float]]:
    model = build()
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        losses.SupervisedContrastive() if loss is None else loss,
        **options,
    )
    if mini_batch_size is not None:
        dist.prepare(model, mini_batch_size=mini_batch_size)
    history = model.fit(x, y, batch_size=9, epochs=2, shuffle=False, verbose=0).history
    state = [np.asarray(v) for v in (*model.variables, *model.optimizer.variables)]
    return state, history["loss"]


def assert_equal(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    """Equal to rounding in float32, beside the largest number of each array."""
    for a, b in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6 * max(1, np.abs(b).max()))
    np.testing.assert_allclose(found[1], expected[1], rtol=2e-5)


@pytest.mark.parametrize("size", [1, 4, 9, 20])
def test_batches_in_parts_train_as_whole_ones(size):
    """Of 14 rows in batches of 9: parts of 4, 4 and 1, and a short last batch."""
    assert_equal(train(size), train(None))


@pytest.mark.parametrize("options", [{"jit_compile": True}, {"run_eagerly": True}])
def test_by_xla_and_eagerly(options):
    """A recurrent layer is a loop, of whose results XLA can hand on none for the gradient."""
    assert_equal(train(4, **options), train(None))


def test_one_that_compares_rows_without_mini_batches_by_xla():
    def build() -> keras.Model:
        encoder = make_encoder()
        encoder.needs_global_batch = True
        return encoder

    def run(**options: Any) -> Any:
        return train(None, build, **options)

    assert_equal(run(jit_compile=True), run())


def test_several_outputs_and_inputs():
    def build() -> keras.Model:
        keras.utils.set_random_seed(1)
        a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
        shared = keras.layers.Dense(1, activation="sigmoid")
        outputs = {"first": shared(a), "second": shared(b)}
        return keras.Model({"a": a, "b": b}, outputs)

    x = {"a": RNG.normal(size=(ROWS, 3)), "b": RNG.normal(size=(ROWS, 3))}
    y: Any = {"first": GROUPS % 2, "second": GROUPS // 2}
    run = functools.partial(train, build=build, loss="binary_crossentropy", x=x, y=y)
    assert_equal(run(4), run(None))


def test_in_16_bits_with_a_scaled_loss():
    def build() -> keras.Model:
        with_policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            return make_encoder()
        finally:
            keras.config.set_dtype_policy(with_policy)

    states, logs = train(4, build=build)
    expected, expected_logs = train(None, build=build)
    np.testing.assert_allclose(logs, expected_logs, rtol=1e-2)
    assert all(np.isfinite(state).all() for state in states)
    np.testing.assert_allclose(states[0], expected[0], rtol=0.05, atol=2e-3)


def test_dropout_draws_the_same_in_both_passes():
    """With all rows in one part both ways draw the same numbers, and end in the same state."""

    def build() -> keras.Model:
        keras.utils.set_random_seed(2)
        return keras.Sequential(
            [keras.Input((LENGTH,)), keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(4)]
        )

    run = functools.partial(train, build=build, x=IDS.astype("float32"))
    assert_equal(run(9), run(None))


def test_other_random_numbers_in_the_second_pass_would_be_noticed(monkeypatch):
    def build() -> keras.Model:
        keras.utils.set_random_seed(2)
        return keras.Sequential(
            [keras.Input((LENGTH,)), keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(4)]
        )

    run = functools.partial(train, build=build, x=IDS.astype("float32"))
    expected = run(None)
    monkeypatch.setattr(mini_batches, "_read_states", lambda model: [])
    with pytest.raises(AssertionError):
        assert_equal(run(9), expected)


def batch_normalized() -> keras.Model:
    return keras.Sequential([keras.Input((LENGTH,)), keras.layers.BatchNormalization()])


def with_activity() -> keras.Model:
    dense = keras.layers.Dense(4, activity_regularizer="l2")
    return keras.Sequential([keras.Input((LENGTH,)), dense])


def masked() -> keras.Model:
    embedding = keras.layers.Embedding(9, 4, mask_zero=True)
    return keras.Sequential([keras.Input((LENGTH,), dtype="int32"), embedding])


class OwnStep(keras.Model):
    def train_step(self, data: Any) -> Any:
        raise AssertionError("It must not be reached.")


def own_step() -> keras.Model:
    inputs = keras.Input((LENGTH,))
    return OwnStep(inputs, keras.layers.Dense(4)(inputs))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (batch_normalized, "batch normalization in batch_normalization.*GroupNormalization"),
        (with_activity, "`add_loss`"),
        (own_step, "mini_batch_size, OwnStep.train_step"),
    ],
)
def test_what_cannot_be_cut_along_the_batch_is_refused(build, said):
    with pytest.raises(UserError, match=f"(?s){said}"):
        train(4, build=build, x=IDS.astype("float32"))


def test_a_mask_is_refused():
    with pytest.raises(UserError, match="without a mask"):
        train(4, build=masked, loss="mse", y=np.zeros((ROWS, LENGTH, 4), "float32"))


def test_a_part_has_a_row_at_least():
    with pytest.raises(UserError, match="Received: mini_batch_size=0"):
        train(0)


STEP = """
import resource, sys
import keras, numpy as np
from sharedlayers_dist import dist, losses

keras.utils.set_random_seed(0)
mini_batch_size, rows, length = map(int, sys.argv[1:])
encoder = keras.Sequential([keras.Input((length, 32)), keras.layers.GRU(64), keras.layers.Dense(8)])
encoder.compile("sgd", losses.SupervisedContrastive())
if mini_batch_size:
    dist.prepare(encoder, mini_batch_size=mini_batch_size)
x = np.ones((rows, length, 32), "float32")
encoder.fit(x, np.arange(rows)[:, None] % 9, batch_size=rows, epochs=2, verbose=0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def peak(mini_batch_size: int, rows: int, length: int = 128) -> int:
    """MiB at the peak of a process that trains on one batch, twice."""
    command = [sys.executable, "-c", STEP, *map(str, (mini_batch_size, rows, length))]
    return int(subprocess.run(command, check=True, capture_output=True, timeout=280).stdout)


@pytest.mark.slow
def test_memory_is_a_matter_of_the_part():
    """Above what a process takes with one part alone."""
    least = peak(0, 64)
    whole, in_parts = peak(0, 2048) - least, peak(64, 2048) - least
    assert in_parts < whole / 4, (least, whole, in_parts)


@pytest.mark.slow
def test_a_batch_of_16384_trains_in_the_memory_of_512():
    """Of the loss, one matrix of the whole batch would have 1,024 MiB; the items have 32."""
    small, large = peak(64, 512, 16), peak(64, 16384, 16)
    print(f"MiB at the peak: {small} with 512 items a batch, {large} with 16,384")
    assert large - small < 600, (small, large)
