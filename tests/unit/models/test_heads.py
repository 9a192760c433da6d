"""Heads give scores of full precision under any setting of Keras."""

import keras
import numpy as np
import pytest
from keras import layers

from sharedlayers_dist import models
from sharedlayers_dist.models.heads import HEADS


@pytest.mark.usefixtures("mixed_precision")
@pytest.mark.parametrize("head", HEADS)
def test_scores_have_full_precision_and_do_not_tie(head, tmp_path):
    item = keras.Input((6, 5))
    encoder = keras.Model(item, layers.LSTM(16)(item))
    model = models.pair_classifier(encoder, head)
    assert encoder.compute_dtype in ("bfloat16", "float16")
    a, b = np.random.default_rng(0).normal(size=(2, 500, 6, 5)).astype("float32")
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")  # A file is opened elsewhere.
    for opened in (model, keras.models.load_model(tmp_path / "model.keras")):
        scores = opened.predict([a, b], verbose=0)
        assert scores.dtype == np.float32
        assert len(np.unique(scores)) > 480
    ids = np.random.default_rng(1).integers(0, 6, (2, 5, 6)).astype("uint16")
    assert models.compact_view(model)({"a": ids[0], "b": ids[1]}).dtype == "float32"


def test_a_head_of_ones_own_in_sixteen_bits_is_told(small_encoder):
    with pytest.warns(UserWarning, match='head bits gives scores of 16 bits.*dtype="float32"'):
        models.pair_classifier(small_encoder, layers.Dot(1, dtype="bfloat16", name="bits"))


def test_more_than_full_precision_is_kept():
    keras.config.set_dtype_policy("float64")
    try:
        encoder = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
        assert models.pair_classifier(encoder, "cosine").outputs[0].dtype == "float64"
    finally:
        keras.config.set_dtype_policy("float32")
