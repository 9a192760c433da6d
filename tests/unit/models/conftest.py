"""Small pair models that the tests of this folder share."""

import keras
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture
def small_encoder():
    item = keras.Input((6, 5), name="item")
    return keras.Model(item, keras.layers.LSTM(4)(item), name="encoder")


@pytest.fixture
def items():
    return np.random.default_rng(0).normal(size=(4, 7, 6, 5)).astype("float32")


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def mixed_precision(request):
    keras.config.set_dtype_policy(request.param)
    yield
    keras.config.set_dtype_policy("float32")
