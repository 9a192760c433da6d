"""Checks of `model.fit`: whatever a user compiles, ranks end where one process ends."""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from sharedlayers_dist import dist
from sharedlayers_dist.world import World
from tests.distributed.workers.small import (
    ONE,
    SIZES,
    Rows,
    assert_close,
    assert_equals_one,
    fit,
    make_model,
    raises,
    state,
)


def case_several_steps_per_execution(world: World) -> None:
    assert_equals_one(world, steps_per_execution=2)


def case_eager(world: World) -> None:
    assert_equals_one(world, run_eagerly=True, epochs=1)


def case_xla(world: World) -> None:
    model, _ = assert_equals_one(
        world,
        jit_compile=True,
        metrics=lambda: ["accuracy"],
        data=functools.partial(Rows, sizes=(12, 5)),
        epochs=1,
        build=lambda: make_model(kernel_regularizer="l2"),
    )
    assert model.jit_compile


def case_xla_of_embeddings_on_a_gpu(world: World) -> None:
    """No rows leave what XLA compiles; this needs no GPU, but one that TensorFlow seems to see."""

    class Ids(Rows):
        def __init__(self, world: World) -> None:
            super().__init__(world, sizes=(12, 5))
            for i, (x, y, weight) in enumerate(self._batches):
                self._batches[i] = (np.abs(10 * x).astype("int32") % 4, y, weight)

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        ids = keras.Input((5,), dtype="int32")
        x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(4, 3)(ids))
        return keras.Model(ids, keras.layers.Dense(1, activation="sigmoid")(x))

    def note_kinds(model: keras.Model) -> None:
        apply_gradients = model.optimizer.apply_gradients

        def noting(pairs: Any) -> Any:
            pairs = list(pairs)
            kinds.update(type(gradient) for gradient, _ in pairs)
            return apply_gradients(pairs)

        object.__setattr__(model.optimizer, "apply_gradients", noting)
        dist.prepare(model)

    kinds: set[type] = set()
    train = functools.partial(
        fit, build=build, data=Ids, optimizer=lambda: keras.optimizers.SGD(1.0)
    )
    with mock.patch.object(tf.config, "get_visible_devices", return_value=["GPU"]):
        model, _ = train(world, jit_compile=True, prepare=note_kinds)
        assert model.jit_compile
        assert tf.IndexedSlices not in kinds
        assert kinds
        assert_close(model, train(ONE)[0])


def case_xla_of_frozen_weights(world: World) -> None:
    """Keras itself warns that there is nothing to train, and goes on."""

    def build() -> keras.Model:
        model = make_model()
        model.trainable = False
        return model

    for jit_compile in (False, True):
        raises(
            UserWarning,
            "not have any trainable weights",
            functools.partial(fit, world, build=build, jit_compile=jit_compile),
        )


def case_xla_of_own_train_step_is_refused(world: World) -> None:
    class Own(keras.Model):
        def train_step(self, data: Any) -> Any:
            raise AssertionError("The first step must not be reached.")

    inputs = keras.Input((5,))
    build = functools.partial(Own, inputs, keras.layers.Dense(1)(inputs))
    raises(
        ValueError,
        "jit_compile=True.*jit_compile=False",
        lambda: fit(world, build=build, jit_compile=True),
    )


def case_xla_without_prepare_is_refused(world: World) -> None:
    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse", jit_compile=True)
    raises(
        ValueError,
        "jit_compile=True.*BroadcastInitialState",
        lambda: model.fit(Rows(world), verbose=0),
    )


def case_fit_without_prepare_says_so(world: World) -> None:
    model = make_model()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD()), "mse")
    raises(UserWarning, "same weight.*prepare", lambda: model.fit(Rows(world), verbose=0))


def case_own_train_step(world: World) -> None:
    class Own(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True), weight)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            return {"loss": loss}

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        return Own(inputs, keras.layers.Dense(1, activation="sigmoid")(inputs))

    model, _ = fit(world, build=build)
    assert_close(model, fit(ONE, build=build)[0])


def case_model_without_shapes(world: World) -> None:
    def build(seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return keras.Sequential(
            [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1, activation="sigmoid")]
        )

    model, _ = fit(world, build=lambda: build(3 + world.rank))
    expected = build(3)
    expected.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
    expected.fit(Rows(ONE), epochs=2, shuffle=False, verbose=0)
    assert_close(model, expected)


def case_padding_counts_for_nothing(world: World) -> None:
    class Padded(Rows):
        """The last rank has nothing in the second step but a row of padding."""

        def __init__(self, world: World) -> None:
            super().__init__(ONE, sizes=SIZES[:3])
            batches = self._batches
            if world.size > 1:
                super().__init__(world, sizes=SIZES[:3])
                x, y, weight = batches[1]
                padding = np.full_like(x[:1], np.nan), np.full_like(y[:1], -1), 0 * weight[:1]
                last = world.size - 1
                shares = [np.array_split(part, last) for part in (x, y, weight)]
                self._batches[1] = (
                    padding if world.rank == last else tuple(s[world.rank] for s in shares)
                )

    def count(x: Any, y: Any, weight: Any) -> Any:
        return tf.reduce_sum(tf.cast(y >= 0, tf.int32))

    for jit_compile in (False, True):
        assert_equals_one(
            world,
            data=Padded,
            prepare=lambda model: dist.prepare(model, num_samples=count),
            jit_compile=jit_compile,
            metrics=lambda: ["accuracy", keras.metrics.AUC(name="auc")],
            epochs=1,
        )


def case_padding_on_all_ranks_changes_no_weights(world: World) -> None:
    """Neither by gradients of a dense kernel nor by the gathered rows of an embedding."""

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        words, numbers = keras.Input((2,), dtype="int32"), keras.Input((2,))
        vectors = keras.layers.Flatten()(keras.layers.Embedding(3, 1)(words))
        product = keras.layers.Multiply()([vectors, numbers])
        return keras.Model([words, numbers], keras.layers.Dense(1)(product))

    model = build()
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
    dist.prepare(model, num_samples=lambda x, y, weight: tf.math.count_nonzero(y >= 0))
    padding = [np.zeros((1, 2)), np.full((1, 2), np.nan)], np.full((1, 1), -1)
    model.fit(*padding, verbose=0, callbacks=dist.default_callbacks())
    assert int(model.optimizer.iterations) == 1
    for weight, before in zip(model.get_weights(), build().get_weights(), strict=True):
        np.testing.assert_array_equal(weight, before)


def case_loss_that_divides_by_weights(world: World) -> None:
    loss = keras.losses.BinaryCrossentropy(reduction="mean_with_sample_weight")
    model, _ = fit(world, loss=loss)
    assert_close(model, fit(ONE, loss=loss)[0])


def case_loss_that_sums(world: World) -> None:
    loss = keras.losses.BinaryCrossentropy(reduction="sum")
    raises(ValueError, "op=dist.Sum", lambda: fit(world, loss=loss))
    model = make_model()
    optimizer = dist.DistributedOptimizer(keras.optimizers.Adam(0.05), op=dist.Sum)
    model.compile(optimizer, loss)
    model.fit(
        Rows(world), epochs=2, shuffle=False, verbose=0, callbacks=[dist.BroadcastInitialState()]
    )
    assert_close(model, fit(ONE, loss=loss)[0])


def case_losses_with_different_divisors_are_refused(world: World) -> None:
    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((5,))
        heads = [keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
        return keras.Model(inputs, dict(zip("ab", heads, strict=True)))

    class Two(Rows):
        """With equal batches, since Keras's own means per output are not exact otherwise."""

        def __init__(self, world: World) -> None:
            super().__init__(world, sizes=(11, 11, 11))

        def __getitem__(self, index: int) -> Any:
            x, y, weight = super().__getitem__(index)
            return x, {"a": y, "b": y}, {"a": weight, "b": weight}

    loss = {"a": "mse", "b": keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")}
    raises(
        ValueError,
        "common weight.*num_samples",
        lambda: fit(world, build=build, data=Two, loss=loss),
    )
    assert_equals_one(
        world,
        build=build,
        data=Two,
        loss={"a": "mse", "b": "mae"},
        loss_weights={"a": 1.0, "b": 0.5},
    )


def case_masked_loss(world: World) -> None:
    class Words(Rows):
        def __init__(self, world: World) -> None:
            super().__init__(ONE)
            rng = np.random.default_rng(4)
            for i, (x, _, _) in enumerate(self._batches):
                words = rng.integers(0, 4, (len(x), 6))
                parts = words, (words[..., None] % 2).astype("float32")
                self._batches[i] = tuple(
                    np.array_split(part, world.size)[world.rank] for part in parts
                )

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        words = keras.Input((6,), dtype="int32")
        x = keras.layers.Embedding(4, 3, mask_zero=True)(words)
        return keras.Model(words, keras.layers.Dense(1, activation="sigmoid")(x))

    raises(ValueError, "mask.*num_samples", lambda: fit(world, build=build, data=Words))
    prepare = functools.partial(
        dist.prepare, num_samples=lambda x, y, weight: tf.math.count_nonzero(x)
    )
    model, _ = fit(world, build=build, data=Words, prepare=prepare)
    assert_close(model, fit(ONE, build=build, data=Words)[0])


def case_sync_batch_normalization(world: World) -> None:
    def build(layer: type[keras.Layer], size: int) -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6, 6, 2))
        x = keras.layers.Conv2D(4, 3)(inputs)
        x = keras.layers.Activation("relu")(layer(momentum=0.8)(x))
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))

    data = functools.partial(Rows, shape=(6, 6, 2))
    sgd = functools.partial(keras.optimizers.SGD, 0.2, momentum=0.9)
    model, _ = fit(
        world,
        build=lambda: build(dist.SyncBatchNormalization, world.size),
        data=data,
        optimizer=sgd,
    )
    plain = functools.partial(build, keras.layers.BatchNormalization, 1)
    expected, _ = fit(ONE, build=plain, data=data, optimizer=sgd)
    assert_close(model, expected)
    loaded = keras.Model.from_config(model.get_config())
    assert {type(layer) for layer in loaded.layers} == {type(layer) for layer in expected.layers}
    alone, _ = fit(world, build=plain, data=data, optimizer=sgd)
    raises(AssertionError, "Not equal", lambda: assert_close(alone, expected))


def case_mixed_precision_agrees_on_infinities(world: World) -> None:
    class Overflow(Rows):
        """One rank's activations leave float16 in the third step."""

        def __getitem__(self, index: int) -> Any:
            x, y, weight = super().__getitem__(index)
            is_bad = index == 2 and world.rank == world.size - 1
            return (x * np.float32(1e6) if is_bad else x), y, weight

    def outside(optimizer: keras.optimizers.Optimizer) -> Any:
        return dist.DistributedOptimizer(keras.optimizers.LossScaleOptimizer(optimizer))

    def inside(optimizer: keras.optimizers.Optimizer) -> Any:
        return keras.optimizers.LossScaleOptimizer(dist.DistributedOptimizer(optimizer))

    ends = []
    for wrap in (outside, inside, dist.DistributedOptimizer):
        for jit_compile in (False, True) if wrap is dist.DistributedOptimizer else (False,):
            keras.config.set_dtype_policy("mixed_float16")
            model = make_model()
            model.compile(wrap(keras.optimizers.Adam(0.05)), "mse", jit_compile=jit_compile)
            model.fit(
                Overflow(world),
                epochs=1,
                shuffle=False,
                verbose=0,
                callbacks=dist.default_callbacks(),
            )
            scale, steps = model.optimizer.dynamic_scale, model.optimizer.iterations
            assert int(steps) == len(Rows(world)) - 1, int(steps)
            assert float(scale) == 2.0**14, float(scale)
            dist.check_replicas(model)
            ends.append(model.get_weights())
    for weights in ends[1:]:
        for a, b in zip(weights, ends[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-3)


def case_bfloat16(world: World) -> None:
    class Words(Rows):
        def __getitem__(self, index: int) -> Any:
            x, y, weight = super().__getitem__(index)
            return (x > 0).astype("int32") + 2 * (x > 1), y, weight

    def build_of_words() -> keras.Model:
        keras.utils.set_random_seed(0)
        words = keras.Input((5,), dtype="int32")
        x = keras.layers.Flatten()(keras.layers.Embedding(4, 3)(words))
        return keras.Model(words, keras.layers.Dense(1, activation="sigmoid")(x))

    for policy, build, data in (
        ("mixed_bfloat16", make_model, Rows),
        ("bfloat16", build_of_words, Words),
    ):
        keras.config.set_dtype_policy(policy)
        options: dict[str, Any] = {
            "build": build,
            "data": data,
            "optimizer": lambda: keras.optimizers.SGD(0.1),
        }
        model, _ = fit(world, **options)
        expected, _ = fit(ONE, **options)
        for a, b in zip(state(model), state(expected), strict=True):
            np.testing.assert_allclose(a.astype("float32"), b.astype("float32"), atol=0.05)


def case_prepared_model_is_compiled_again(world: World) -> None:
    model, _ = fit(world, epochs=1)
    model.compile(keras.optimizers.SGD(), "mse")
    raises(ValueError, "DistributedOptimizer again", lambda: model.fit(Rows(world), verbose=0))
    model.compile(dist.DistributedOptimizer(keras.optimizers.SGD(0.1)), "mse")
    model.fit(Rows(world), verbose=0, callbacks=dist.default_callbacks())
