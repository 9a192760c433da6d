"""A learned temperature is a weight of the model: its gradient, its bound, its storing."""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import losses
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.losses import LearnedTemperature
from tests.unit.losses.numerics import draw

TAKING_ONE = ("SupervisedContrastive", "InBatchNegatives", "SigmoidPairs")
GROUPS = [4, 7, 4, 9, 7, 7, 2, -1]


@pytest.fixture(params=TAKING_ONE)
def name(request):
    return request.param


def learning(name):
    """A loss of a learned temperature, and encodings for it."""
    loss = getattr(losses, name)("learned")
    encodings, _ = draw(GROUPS, seed=0, pairs=loss.takes == "pairs of encodings")
    return loss, tf.constant(encodings, "float32")


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_the_loss_is_that_of_the_same_temperature_given(name, temperature):
    loss, encodings = learning(name)
    given = getattr(losses, name)(temperature)
    layer = LearnedTemperature(temperature)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(encodings)
        learned, fixed = loss(GROUPS, layer(encodings)), given(GROUPS, encodings)
    assert float(learned) == pytest.approx(float(fixed), rel=2e-5)
    gradients = [tape.gradient(value, encodings).numpy() for value in (learned, fixed)]
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
def test_the_gradient_of_the_weight_is_the_numerical_one(name, temperature):
    """Of the loss with a given temperature, so that the layer is not held against itself."""
    loss, encodings = learning(name)
    layer = LearnedTemperature(temperature)
    layer.build(encodings.shape)
    with tf.GradientTape() as tape:
        value = loss(GROUPS, layer(encodings))
    (gradient,) = tape.gradient(value, layer.trainable_weights)
    assert layer.trainable_weights[0].shape == ()

    def given(log_scale):
        return float(getattr(losses, name)(math.exp(-log_scale))(GROUPS, encodings))

    log_scale, step = -math.log(temperature), 0.02
    numerical = (given(log_scale + step) - given(log_scale - step)) / (2 * step)
    assert float(gradient) == pytest.approx(numerical, rel=5e-3, abs=1e-4)


def test_the_scale_stays_at_a_hundred_at_most_and_can_come_back():
    layer = LearnedTemperature(0.011)
    layer.build((None, 3))
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build(layer.trainable_weights)
    for gradient, expected in ((-50.0, math.log(100)), (0.25, math.log(100) - 0.25)):
        optimizer.apply_gradients([(tf.constant(gradient), layer.trainable_weights[0])])
        assert float(layer.log_scale) == pytest.approx(expected)


def test_under_mixed_precision_the_weight_keeps_its_digits():
    layer = LearnedTemperature(0.03, dtype="mixed_float16")
    encodings = tf.constant([[3e-5, 4e-5]])  # Their squares are 0 in 16 bits.
    given = layer(encodings)
    assert given.dtype == tf.float16
    assert layer.log_scale.dtype == "float32"
    np.testing.assert_allclose(given, [[0.6 * 0.03**-0.5, 0.8 * 0.03**-0.5]], rtol=5e-3)


@pytest.mark.parametrize("initial", [0, -1.0, None, "learned", 0.005, float("nan")])
def test_a_temperature_out_of_its_range_is_refused_with_its_value(initial):
    with pytest.raises(UserError, match=f"`initial` must be .*Received: initial={initial!r}"):
        LearnedTemperature(initial)


def test_it_is_trained_stored_and_restored_as_the_other_weights(name, tmp_path):
    loss = getattr(losses, name)("learned")
    is_pairs = loss.takes == "pairs of encodings"
    rng = np.random.default_rng(0)
    groups = np.arange(22) % 6
    shape = (22, 2, 5) if is_pairs else (22, 5)
    near = rng.normal(size=(6, 5))[groups]
    x = rng.normal(scale=0.5, size=shape) + (near[:, None] if is_pairs else near)
    keras.utils.set_random_seed(0)
    layer = LearnedTemperature(0.2, name="temperature")
    model = keras.Sequential([keras.Input(shape[1:]), keras.layers.Dense(4), layer])
    losses.check_output_layer(loss, model.layers[-1])
    model.compile(keras.optimizers.Adam(0.03), loss=loss)
    begun = float(layer.log_scale)
    figures = model.fit(x, groups, batch_size=8, epochs=5, verbose=0).history
    assert figures["loss"][-1] < 0.97 * figures["loss"][0]
    assert abs(float(layer.log_scale) - begun) > 0.05
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "seen.npz", x=x, y=model(x), scale=float(layer.log_scale))
    code = (
        "import sys, keras, numpy as np\n"
        f"from sharedlayers_dist.losses import LearnedTemperature, {name}\n"
        "model = keras.models.load_model(sys.argv[1] + '/model.keras')\n"
        "seen = np.load(sys.argv[1] + '/seen.npz')\n"
        "np.testing.assert_allclose(model(seen['x']), seen['y'], rtol=1e-5, atol=1e-6)\n"
        "assert float(model.get_layer('temperature').log_scale) == float(seen['scale'])\n"
        "assert model.get_layer('temperature').initial == 0.2\n"
        f"assert type(model.loss) is {name} and model.loss.temperature == 'learned'\n"
        "assert model.optimizer.iterations == 15\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=120)
