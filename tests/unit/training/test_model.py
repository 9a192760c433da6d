"""The model of a run: by name, or by a function of one's own."""

from typing import get_args, get_type_hints

import keras
import numpy as np
import pytest
from keras import layers

from sharedlayers_dist import dist
from sharedlayers_dist.config import ModelConfig, TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.heads import HEADS
from sharedlayers_dist.training.model import build_pair_model, describe_inexact_layers
from sharedlayers_dist.training.trained_model import compile_for_training, with_known_monitor


def make_encoder(units: int = 3, **options) -> keras.Model:
    ids = keras.Input((280,), dtype="int32")
    x = layers.Embedding(9, units, **options)(ids)
    return keras.Model(ids, layers.GlobalMaxPooling1D()(x))


def make_pair_model(score_dtype: str | None = None, **compile_options) -> keras.Model:
    a, b = (keras.Input((280,), dtype="int32", name=name) for name in "ab")
    encoder = make_encoder()
    head = layers.Dense(1, activation="sigmoid", dtype=score_dtype)
    model = keras.Model([a, b], head(layers.Subtract()([encoder(a), encoder(b)])))
    if compile_options:
        model.compile(**compile_options)
    return model


def config(**options) -> TrainConfig:
    return TrainConfig(pairs="p", output="o", **options)


def test_an_encoder_gets_a_head_that_can_say_whether_both_are_the_same():
    built = build_pair_model(ModelConfig(model_options={"units": 5}), make_encoder)
    assert built.plain.output_shape == (None, 1)
    assert built.plain.count_params() == 9 * 5 + 2  # A scale and a bias.
    assert built.compiled is None


def test_the_heads_of_the_options_are_those_of_the_models():
    hint = get_type_hints(ModelConfig)["head"]
    assert get_args(hint) == ("auto", *HEADS)


def test_the_options_compile_what_is_not_compiled():
    built = build_pair_model(ModelConfig(), make_pair_model)
    model = compile_for_training(built, config(optimizer="sgd", loss="hinge")).view
    assert type(model.optimizer) is keras.optimizers.SGD
    assert model.loss == "hinge"


def test_what_a_model_was_compiled_with_is_used():
    def build():
        return make_pair_model(
            optimizer=keras.optimizers.Adam(0.125),
            loss=keras.losses.BinaryCrossentropy(label_smoothing=0.1),
            metrics=[keras.metrics.Precision(name="precision")],
        )

    trained = compile_for_training(build_pair_model(ModelConfig(), build), config())
    assert float(trained.view.optimizer.learning_rate) == 0.125
    assert trained.view.loss.get_config()["label_smoothing"] == 0.1
    known = with_known_monitor(config(monitor="precision"), trained)
    assert known.monitor_mode == "max"
    with pytest.raises(UserError, match=r"one of loss, precision.* Received: monitor='roc_auc'"):
        with_known_monitor(config(monitor="roc_auc"), trained)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam"},
        {"learning_rate": 0.1},
        {"loss": "hinge"},
        {"schedule": "cosine"},
        {"warmup_steps": 2},
        {"clip_norm": 1.0},
        {"weight_decay": 0.1},
        {"optimizer_options": {"momentum": 0.9}},
    ],
)
def test_an_option_beside_a_compiled_model_is_refused(options):
    built = build_pair_model(
        ModelConfig(), lambda: make_pair_model(optimizer="sgd", loss="binary_crossentropy")
    )
    with pytest.raises(UserError, match=f"Received: {next(iter(options))}="):
        compile_for_training(built, config(**options))


def test_gradients_are_accumulated_beside_a_compiled_model_but_one_thing_says_of_how_many_steps():
    def build(optimizer):
        return build_pair_model(
            ModelConfig(),
            lambda: make_pair_model(optimizer=optimizer, loss="binary_crossentropy"),
        )

    options = config(gradient_accumulation=3)
    optimizer = compile_for_training(build("sgd"), options).view.optimizer
    assert dist.accumulated_gradients(optimizer) == []
    with pytest.raises(UserError, match="Received: 1 passes of shapes"):
        dist.resume_accumulated_gradients(optimizer, [np.array(1)])
    own = dist.DistributedOptimizer(keras.optimizers.SGD(), backward_passes_per_step=2)
    with pytest.raises(UserError, match="Received: gradient_accumulation=3, for an optimizer"):
        compile_for_training(build(own), options)


@pytest.mark.parametrize("loss", [keras.losses.BinaryCrossentropy(reduction="sum")])
def test_a_loss_that_is_no_mean_is_refused(loss):
    built = build_pair_model(ModelConfig(), lambda: make_pair_model(optimizer="sgd", loss=loss))
    with pytest.raises(UserError, match=r"one mean over pairs.*reduction 'sum'"):
        compile_for_training(built, config())


@pytest.mark.parametrize(
    ("build", "options", "said"),
    [
        (lambda: 3, {}, "A model's function returns a Keras model.*Received: 3"),
        (
            lambda units: make_encoder(units),
            {"model_options": {"unit": 2}},
            "must be keywords.*unit",
        ),
        (make_pair_model, {"head": "cosine"}, "A pair model has its own head.*head='cosine'"),
        (
            lambda: keras.Sequential([keras.Input((280,)), layers.Reshape((28, 10))]),
            {},
            "compares encodings of shape",
        ),
        (
            lambda: keras.Model(*2 * [[keras.Input((1,), name=n) for n in "abc"]]),
            {},
            "`encoder` must have one input",
        ),
        (
            lambda: keras.Model(i := [keras.Input((3,), name=n) for n in "ab"], layers.add(i)),
            {},
            r"one score for a pair.*\(3,\)",
        ),
    ],
)
def test_what_makes_no_pair_model_is_refused(build, options, said):
    with pytest.raises(UserError, match=said):
        build_pair_model(ModelConfig(**options), build)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "residual"}, "must compare two items.*Such models are tweet_pair, digit_pair"),
        ({"model": "tweets"}, "no model of this name.*'tweets'"),
        ({"model_options": {"units": 3}}, "has no such option.*units=3"),
        ({"head": "cosine", "model_options": {"head": "cosine"}}, "The head is given once"),
    ],
)
def test_a_name_or_an_option_that_the_zoo_has_not_is_refused(options, said):
    with pytest.raises(UserError, match=said):
        build_pair_model(ModelConfig(**options))


def test_a_score_is_a_probability():
    def build():
        a, b = (keras.Input((280,), dtype="int32", name=name) for name in "ab")
        encoder = make_encoder()
        return keras.Model([a, b], layers.Dense(1)(layers.Subtract()([encoder(a), encoder(b)])))

    with pytest.raises(UserError, match=r"A score is a probability.*'linear'"):
        build_pair_model(ModelConfig(), build)


def test_layers_compute_in_the_precision_asked_for_and_scores_in_32_bits():
    before = keras.config.dtype_policy().name
    built = build_pair_model(ModelConfig(precision="mixed_bfloat16"), make_encoder)
    assert keras.config.dtype_policy().name == before
    computed = {layer.compute_dtype for layer in built.plain.layers if layer.weights}
    assert computed == {"bfloat16", "float32"}
    assert built.plain.outputs[0].dtype == "float32"


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_pair_model_of_ones_own_whose_scores_would_tie_is_refused(precision):
    with pytest.raises(UserError, match=r'A score has 32 bits.*float16.*dtype="float32"'):
        build_pair_model(ModelConfig(precision=precision), make_pair_model)
    built = build_pair_model(
        ModelConfig(precision=precision), lambda: make_pair_model(score_dtype="float32")
    )
    assert built.plain.outputs[0].dtype == "float32"


def test_layers_that_depend_on_the_ranks_are_named():
    def build(norm, **options):
        image = keras.Input((8, 8, 1))
        x = norm(layers.Conv2D(2, 3, **options)(image))
        return keras.Model(image, layers.GlobalMaxPooling2D()(x))

    frozen = layers.BatchNormalization(trainable=False)
    assert describe_inexact_layers(build(frozen)) == []
    assert describe_inexact_layers(build(layers.GroupNormalization(1))) == []
    assert describe_inexact_layers(build(dist.SyncBatchNormalization())) == []
    (line,) = describe_inexact_layers(build(layers.BatchNormalization(name="norm")))
    assert line.startswith("norm: ")
    assert "SyncBatchNormalization" in line
    (line,) = describe_inexact_layers(
        build(layers.GroupNormalization(1), activity_regularizer="l2", name="conv")
    )
    assert line.startswith("conv: ")
