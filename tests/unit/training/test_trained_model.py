"""What is trained: by the fast paths the same as without them."""

import keras
import numpy as np
import pytest
from keras import layers

from sharedlayers_dist import TrainConfig, evaluate, train
from sharedlayers_dist.training.model import PairModel
from sharedlayers_dist.training.trained_model import compile_for_training
from tests.distributed.pairs import write_text_pairs

LENGTH, LETTERS = 40, 256


def lstm():
    return keras.Sequential([keras.Input((LENGTH, LETTERS)), layers.LSTM(4), layers.Dense(3)])


def masked_gru():
    rows = keras.Input((LENGTH, LETTERS))
    return keras.Model(rows, layers.GRU(4)(layers.Masking()(rows)))


def convolution():
    rows = keras.Input((LENGTH, LETTERS))
    return keras.Model(rows, layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3)(rows)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_text_pairs(folder / "train", 60)
    write_text_pairs(folder / "validation", 20, seed=1)
    return folder


def run(folder, name, build, **options):
    keras.backend.clear_session()
    config = TrainConfig(
        pairs=str(folder / "train"),
        validation=str(folder / "validation"),
        output=str(folder / name),
        batch_size=16,
        epochs=2,
        optimizer="sgd",
        learning_rate=0.1,
        **options,
    )
    result = train(config, build=build)
    model = keras.models.load_model(result.model, compile=False)
    return result, model.get_weights()


@pytest.mark.parametrize("build", [lstm, masked_gru, convolution])
@pytest.mark.parametrize("loss", ["", "contrastive"])
def test_weights_and_figures_are_the_same(folder, build, loss):
    name = f"{build.__name__}-{loss}"
    options = {"loss": loss, "head": "scaled_cosine"} if loss else {}
    fast, weights = run(folder, f"{name}-fast", build, **options)
    plain, expected = run(folder, f"{name}-plain", build, fast_paths=False, **options)
    for one, other in zip(weights, expected, strict=True):
        # Of losses of encodings the head is fitted, which ends where it hardly matters.
        np.testing.assert_allclose(one, other, rtol=1e-3 if loss else 2e-4, atol=2e-6)
    for figure, value in plain.metrics.items():
        if "second" not in figure:
            assert fast.metrics[figure] == pytest.approx(value, rel=1e-3), figure
    if not loss:
        files = [str(folder / f"{name}.{run}.parquet") for run in ("fast", "plain")]
        found, wanted = (
            evaluate.predict(result.run, str(folder / "validation"), file).scores
            for result, file in zip((fast, plain), files, strict=True)
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "shares"),
    [({}, True), ({"fast_paths": False}, False), ({"mini_batch_size": 4}, False)],
)
def test_when_items_are_shared(options, shares):
    from sharedlayers_dist import models

    config = TrainConfig(pairs="p", output="o", **options)
    built = PairModel(plain=models.pair_classifier(lstm()), compiled=None)
    assert compile_for_training(built, config).shares_items == shares
