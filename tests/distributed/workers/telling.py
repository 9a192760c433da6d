"""Checks of the numbers that travel with the gradients of a step."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import dist
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.training.checkpoints.callback import SaveCheckpoints
from sharedlayers_dist.training.checkpoints.manager import CheckpointManager
from sharedlayers_dist.training.checkpoints.retention import RetentionPolicy
from sharedlayers_dist.training.position import Position, PositionTracker
from sharedlayers_dist.training.preemption import StopRequest
from sharedlayers_dist.world import World
from tests.distributed.workers.small import (
    ONE,
    SIZES,
    Rows,
    all_but_the_last,
    assert_close,
    fit,
    make_model,
    raises,
)
from tests.unit.training.checkpoints.samples import make_checkpoint


class Tell(keras.callbacks.Callback):
    """Sets other numbers on each rank before each step, and notes what was told after it."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._rank = world.rank
        self._flags = dist.StepFlags(3)
        self.told: list[list[int] | None] = []

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        dist.prepare(model, flags=self._flags)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._flags.set(numbers(len(self.told), self._rank))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.told.append(self._flags.sums())


def numbers(step: int, rank: int) -> list[int]:
    return [step, rank == 1, 7919 * (rank + 1) - step]


def sums(step: int, world: World) -> list[int]:
    parts = [numbers(step, rank) for rank in range(world.size)]
    return [sum(column) for column in zip(*parts, strict=True)]


def assert_told(world: World, told: list[list[int] | None], passes: int = 1) -> None:
    """Asserts that every `passes`-th step has told the sums, and the others nothing."""
    expected = [None if (step + 1) % passes else sums(step, world) for step in range(len(told))]
    assert told == expected, (told, expected)


def train(
    world: World,
    wrap: Callable[[Any], Any],
    *,
    data: Callable[[World], Any] = Rows,
    build: Callable[[], keras.Model] = make_model,
    epochs: int = 2,
    **options: Any,
) -> tuple[keras.Model, list[list[int] | None]]:
    """Trains with numbers travelling along; returns the model and what was told."""
    tell = Tell(world)
    model = build()
    model.compile(wrap(keras.optimizers.Adam(0.05)), "mse", **options)
    model.fit(data(world), epochs=epochs, shuffle=False, verbose=0, callbacks=[tell])
    return model, tell.told


def case_flags_are_told_after_the_step_that_they_were_set_for(world: World) -> None:
    """And nothing else of the training changes, however the step is run."""
    expected, _ = fit(ONE)
    ways: list[dict[str, Any]] = [{}, {"run_eagerly": True}, {"jit_compile": True}]
    for options in ways:
        tell = Tell(world)
        model, _ = fit(world, callbacks=[tell], **options)
        assert len(tell.told) == 2 * len(SIZES)
        assert_told(world, tell.told)
        assert_close(model, expected)


def case_flags_travel_with_every_kind_of_reduction(world: World) -> None:
    import horovod.tensorflow as hvd

    fp16 = hvd.Compression.fp16
    choices: list[dict[str, Any]] = [
        {"op": dist.Sum, "compression": fp16, "groups": 3},
        {"gradient_predivide_factor": 7.0, "compression": fp16, "groups": 2},
    ]
    for options in choices:
        _, told = train(world, functools.partial(dist.DistributedOptimizer, **options), epochs=1)
        assert_told(world, told)
    keras.config.set_dtype_policy("float64")
    assert_told(world, train(world, dist.DistributedOptimizer, epochs=1)[1])


def case_flags_travel_with_sparse_gradients(world: World) -> None:
    """Beside dense ones, and where there are no others."""

    class Words(Rows):
        def __getitem__(self, index: int) -> Any:
            x, y, weight = super().__getitem__(index)
            return (x > 0).astype("int32"), y, weight

    def build(is_dense: bool) -> keras.Model:
        keras.utils.set_random_seed(0)
        words = keras.Input((5,), dtype="int32")
        x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(4, 1)(words))
        return keras.Model(words, keras.layers.Dense(1)(x) if is_dense else x)

    for is_dense, op in ((False, dist.Average), (False, dist.Sum), (True, dist.Average)):
        _, told = train(
            world,
            functools.partial(dist.DistributedOptimizer, op=op),
            data=Words,
            build=functools.partial(build, is_dense),
            epochs=1,
        )
        assert_told(world, told)


def case_passes_that_reduce_nothing_tell_nothing(world: World) -> None:
    wrap = functools.partial(dist.DistributedOptimizer, backward_passes_per_step=3)
    ways: list[dict[str, Any]] = [{"jit_compile": True}, {"run_eagerly": True}]
    for options in ways:
        _, told = train(world, wrap, **options)
        assert_told(world, told, passes=3)


def case_flags_are_told_by_steps_that_overflow(world: World) -> None:
    class Overflow(Rows):
        """One rank's activations leave float16 in the third step."""

        def __getitem__(self, index: int) -> Any:
            x, y, weight = super().__getitem__(index)
            is_bad = index == 2 and world.rank == world.size - 1
            return (x * np.float32(1e6) if is_bad else x), y, weight

    def outside(optimizer: Any) -> Any:
        return dist.DistributedOptimizer(keras.optimizers.LossScaleOptimizer(optimizer))

    def inside(optimizer: Any) -> Any:
        return keras.optimizers.LossScaleOptimizer(dist.DistributedOptimizer(optimizer))

    for wrap, jit_compile in ((outside, False), (inside, True)):
        keras.config.set_dtype_policy("mixed_float16")
        model, told = train(world, wrap, data=Overflow, epochs=1, jit_compile=jit_compile)
        assert int(model.optimizer.iterations) == len(SIZES) - 1
        assert_told(world, told)


def case_a_rank_of_padding_alone_tells_and_is_told(world: World) -> None:
    class Padded(Rows):
        def __getitem__(self, index: int) -> Any:
            x, y, weight = super().__getitem__(index)
            if index == 1 and world.rank == world.size - 1:
                return np.full_like(x[:1], np.nan), np.full_like(y[:1], -1), 0 * weight[:1]
            return x, y, weight

    tell = Tell(world)
    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
    dist.prepare(model, num_samples=lambda x, y, weight: tf.math.count_nonzero(y >= 0))
    model.fit(Padded(world), shuffle=False, verbose=0, callbacks=[tell])
    assert np.isfinite(model.get_weights()[0]).all()
    assert_told(world, tell.told)


def case_several_steps_per_execution_tell_what_was_set_before_them(world: World) -> None:
    _, told = train(world, dist.DistributedOptimizer, epochs=1, steps_per_execution=2)
    assert len(told) == 3
    assert_told(world, told)


def case_evaluation_tells_nothing(world: World) -> None:
    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
    flags = dist.StepFlags(1)
    dist.prepare(model, flags=flags)
    flags.set([1])
    model.evaluate(Rows(world), verbose=0)
    assert flags.sums() is None
    model.fit(Rows(world), verbose=0)
    assert flags.sums() == [world.size]
    assert flags.sums() is None


def case_a_process_set_is_told_of_its_own_ranks(world: World) -> None:
    members, chosen = range(world.size - 1), all_but_the_last(world.size)
    variable, flags = keras.Variable([0.0, 0.0]), dist.StepFlags(2)
    optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(1.0), process_set=chosen)
    optimizer.build([variable])
    flags.set([1, world.rank + 1])
    with dist.local_batch(1), flags.travelling():
        optimizer.apply([tf.constant([1.0, 0.0])], [variable])
    expected = [len(members), sum(rank + 1 for rank in members)]
    assert flags.sums() == (expected if world.rank in members else [1, world.rank + 1])


def case_flags_travel_in_a_loop_of_ones_own(world: World) -> None:
    """Set anew between steps of one graph, which finds them when it runs."""
    variable, flags = keras.Variable([2.0, 1.0]), dist.StepFlags(3)
    optimizer = dist.DistributedOptimizer(keras.optimizers.SGD(0.5))
    optimizer.build([variable])

    @tf.function
    def step(gradient: tf.Tensor) -> None:
        with dist.local_batch(world.rank + 1), flags.travelling():
            optimizer.apply([gradient], [variable])

    for number in range(4):
        flags.set(numbers(number, world.rank))
        step(tf.constant([1.0, float(world.rank)]))
        assert flags.sums() == sums(number, world)


def case_flags_of_another_number_are_refused(world: World) -> None:
    raises(ValueError, "count=0", lambda: dist.StepFlags(0))
    raises(ValueError, "2 numbers, count=3", lambda: dist.StepFlags(3).set([1, 2]))


def case_an_error_of_writing_is_kept_until_all_ranks_know_it(world: World) -> None:
    """Of five passes the fourth saves; the fifth, which tells nothing, begins when that failed."""

    class Waiting(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            assert manager is None or manager.wait(30)

    def fail() -> None:
        raise OSError("no space left")

    with tempfile.TemporaryDirectory() as folder:
        manager = None
        if world.is_rank_zero:
            policy = RetentionPolicy(newest=1)
            manager = CheckpointManager(LocalFolder(Path(folder)), policy, before=fail, start=0)
        track = PositionTracker(Position(), steps_per_epoch=len(SIZES), epochs=1)
        save = SaveCheckpoints(
            track,
            capture=lambda position: make_checkpoint(position.step),
            manager=manager,
            collectives=dist.HorovodCollectives(),
            stop=StopRequest(),
            every=4,
            minutes=0,
        )
        model = make_model()
        optimizer = keras.optimizers.SGD(0.1)
        model.compile(dist.DistributedOptimizer(optimizer, backward_passes_per_step=3), "mse")
        raises(
            dist.CollectiveRuntimeError,
            "Rank 0: .*no space left at step 4",
            lambda: model.fit(Rows(world), verbose=0, callbacks=[track, Waiting(), save]),
        )
        assert track.position.step == len(SIZES)
