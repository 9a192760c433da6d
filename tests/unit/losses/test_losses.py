"""What holds of every loss: files, precision, order, weights, rows that are none, Keras's fit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import losses
from sharedlayers_dist.errors import UserError
from tests.unit.losses.numerics import value_and_gradient

LOSSES: dict[str, dict[str, Any]] = {
    "Contrastive": {"margin": 0.7, "positive_label": 0},
    "OnlineContrastive": {"margin": 0.8, "positive_label": 0},
    "CoSENT": {"scale": 5.0},
    "Triplet": {"margin": 0.5, "mining": "all", "distance": "cosine"},
    "SupervisedContrastive": {"temperature": 0.3},
    "MultiSimilarity": {"alpha": 3.0, "beta": 20.0, "base": 0.4, "epsilon": 0.2},
    "InBatchNegatives": {"temperature": 0.2, "symmetric": False},
    "SigmoidPairs": {"temperature": 0.2, "bias": -2.0},
}
"""Each loss by its name, with options that are not its defaults."""

OF_LISTED_PAIRS = ("Contrastive", "OnlineContrastive", "CoSENT")
OF_BATCHES = tuple(name for name in LOSSES if name not in OF_LISTED_PAIRS)


@pytest.fixture(params=LOSSES)
def name(request):
    return request.param


def make(name):
    return getattr(losses, name)(**LOSSES[name])


def draw(loss, rows=10, seed=0):
    """Targets and outputs as the loss takes them, and weights."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2, rows).astype("float32")
    if loss.takes in ("distances", "cosines"):
        return rng.permutation(rows) % 2, rng.uniform(0, 1, (rows, 1)).astype("float32"), weights
    shape = (rows, 4) if loss.takes == "encodings" else (rows, 2, 4)
    return rng.integers(0, 4, rows), rng.normal(size=shape).astype("float32"), weights


def test_all_public_losses_are_in_the_table():
    public = {
        name
        for name in dir(losses)
        if isinstance(found := getattr(losses, name), type) and issubclass(found, keras.losses.Loss)
    }
    assert public - {"BatchLoss", "AnchorLoss"} == set(LOSSES)


def test_each_says_whether_it_needs_the_global_batch(name):
    """The sum over the halves of a batch is the whole for the contrastive loss alone."""
    loss = make(name)
    y_true, y_pred, _ = draw(loss)
    whole = float(loss(y_true, y_pred))
    halves = (float(loss(y_true[:5], y_pred[:5])) + float(loss(y_true[5:], y_pred[5:]))) / 2
    assert loss.needs_global_batch is (name != "Contrastive")
    assert (whole == pytest.approx(halves, rel=1e-5)) is not loss.needs_global_batch


def test_a_loss_comes_back_from_its_configuration(name):
    loss = make(name)
    stored = json.loads(json.dumps(keras.losses.serialize(loss)))
    assert stored["registered_name"] == f"sharedlayers_dist>{name}"
    opened = keras.losses.deserialize(stored)
    assert type(opened) is type(loss)
    assert opened.get_config() == loss.get_config()
    assert LOSSES[name].items() <= opened.get_config().items()
    y_true, y_pred, weights = draw(loss)
    assert float(opened(y_true, y_pred, weights)) == float(loss(y_true, y_pred, weights))


def test_defaults_come_back_too(name):
    loss = getattr(losses, name)()
    opened = keras.losses.deserialize(keras.losses.serialize(loss))
    assert opened.get_config() == loss.get_config()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_outputs_of_sixteen_bits_are_computed_with_in_float32(name, dtype):
    loss = make(name)
    y_true, y_pred, weights = draw(loss)
    short = tf.cast(y_pred, dtype)
    value = loss(y_true, short, weights)
    assert value.dtype == tf.float32
    assert float(value) == float(loss(y_true, tf.cast(short, "float32"), weights))


def test_under_a_shorter_floatx_they_are_still_computed_in_float32(name):
    keras.config.set_floatx("float16")
    try:
        loss = make(name)
    finally:
        keras.config.set_floatx("float32")
    y_true, y_pred, _ = draw(loss)
    assert loss(y_true, y_pred).dtype == tf.float32


def test_the_order_of_the_rows_does_not_matter(name):
    loss = make(name)
    y_true, y_pred, weights = draw(loss)
    value, gradient = value_and_gradient(loss, y_true, y_pred, weights)
    order = np.random.default_rng(1).permutation(len(y_true))
    other, other_gradient = value_and_gradient(loss, y_true[order], y_pred[order], weights[order])
    assert value > 0
    assert other == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(other_gradient, gradient[order], rtol=1e-3, atol=1e-5)


def test_rows_that_are_none_change_nothing_and_get_no_gradient(name):
    loss = make(name)
    y_true, y_pred, weights = draw(loss)
    nobody, elsewhere, _ = draw(loss, rows=4, seed=5)
    if name in OF_LISTED_PAIRS:
        padding = np.zeros(4, "float32")  # Weights.
    else:
        nobody, padding = np.full(4, -1), np.ones(4, "float32")
    value, gradient = value_and_gradient(loss, y_true, y_pred, weights)
    longer, longer_gradient = value_and_gradient(
        loss,
        np.concatenate([y_true, nobody]),
        np.concatenate([y_pred, elsewhere]),
        np.concatenate([weights, padding]),
    )
    # Keras's mean, which the contrastive loss takes, counts rows of weight 0.
    share = 10 / 14 if name == "Contrastive" else 1
    assert longer == pytest.approx(share * value, rel=1e-5)
    np.testing.assert_allclose(longer_gradient[:10], share * gradient, rtol=1e-3, atol=1e-5)
    assert not longer_gradient[10:].any()


@pytest.mark.parametrize("name", OF_BATCHES)
@pytest.mark.parametrize("nothing", ["rows", "weights"])
def test_without_any_anchor_loss_and_gradients_are_exactly_zero(name, nothing):
    loss = make(name)
    groups, encodings, weights = draw(loss)
    groups = np.full_like(groups, -1) if nothing == "rows" else groups
    weights = np.zeros_like(weights) if nothing == "weights" else weights
    encodings[:2] = 0  # Nor are encodings of length 0 a reason for NaN.
    value, gradient = value_and_gradient(loss, groups, encodings, weights)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(encodings))


@pytest.mark.parametrize("name", OF_BATCHES)
def test_encodings_of_length_zero_have_finite_gradients(name):
    loss = make(name)
    groups, encodings, _ = draw(loss)
    encodings[:4] = 0
    value, gradient = value_and_gradient(loss, groups, encodings)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_an_output_that_is_nan_shows_in_the_loss(name):
    loss = make(name)
    for row in range(4):
        y_true, y_pred, _ = draw(loss)
        y_pred[row] = np.nan
        assert np.isnan(float(loss(y_true, y_pred)))


@pytest.mark.parametrize("mining", ["all", "hard", "semi-hard"])
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
def test_an_encoding_that_is_nan_shows_in_every_triplet_loss(mining, distance):
    loss = losses.Triplet(mining=mining, distance=distance)
    groups, encodings, _ = draw(loss)
    encodings[3] = np.nan
    assert np.isnan(float(loss(groups, encodings)))


def test_targets_and_weights_may_be_columns(name):
    loss = make(name)
    y_true, y_pred, weights = draw(loss)
    value, _ = value_and_gradient(loss, y_true, y_pred, weights)
    column, _ = value_and_gradient(loss, y_true[:, None], y_pred, weights[:, None])
    assert column == pytest.approx(value, rel=1e-6)


def test_weights_of_one_are_no_weights(name):
    loss = make(name)
    y_true, y_pred, _ = draw(loss)
    assert float(loss(y_true, y_pred, np.ones(10))) == float(loss(y_true, y_pred))
    alone = loss.call(tf.constant(y_true), tf.constant(y_pred))
    assert float(tf.reduce_mean(alone)) == pytest.approx(float(loss(y_true, y_pred)))


def test_batches_of_unknown_size_are_traced_once(name):
    loss = make(name)
    y_true, y_pred, weights = draw(loss)
    signature = [
        tf.TensorSpec([None], y_true.dtype),
        tf.TensorSpec([None, *y_pred.shape[1:]], "float32"),
        tf.TensorSpec([None], "float32"),
    ]
    traced = tf.function(loss, input_signature=signature)
    for rows in (10, 7):
        part = y_true[:rows], y_pred[:rows], weights[:rows]
        assert float(traced(*part)) == pytest.approx(float(loss(*part)), rel=1e-5)


def sizes_of_results(graph):
    """The number of elements of each result in a graph, and in the graphs that it calls."""
    for operation in graph.get_operations():
        yield from (result.shape.num_elements() or 0 for result in operation.outputs)
    for function in graph._functions.values():
        yield from sizes_of_results(function.graph)


@pytest.mark.parametrize(
    "loss",
    [
        *(losses.Triplet(mining=mining) for mining in ("all", "hard", "semi-hard")),
        *(make(name) for name in OF_BATCHES if name != "Triplet"),
    ],
    ids=lambda loss: f"{loss.name} {getattr(loss, 'mining', '')}",
)
def test_no_result_is_larger_than_the_square_of_the_batch(loss):
    rows = 40
    groups, y_pred, _ = draw(loss, rows=rows)

    def loss_and_gradient(y_true, y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = loss(y_true, y_pred)
        return value, tape.gradient(value, y_pred)

    traced = tf.function(loss_and_gradient).get_concrete_function(groups, tf.constant(y_pred))
    sizes = list(sizes_of_results(traced.graph))
    assert rows**2 <= max(sizes) <= 2 * rows**2


def build(takes):
    """A tiny model that gives what a loss takes, of two inputs where these are two sides."""
    keras.utils.set_random_seed(0)
    encode = keras.layers.Dense(4)
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    if takes == "encodings":
        return keras.Model({"a": a}, encode(a))
    encoded = [encode(a), encode(b)]
    if takes == "pairs of encodings":
        return keras.Model({"a": a, "b": b}, keras.ops.stack(encoded, axis=1))
    cosine = keras.layers.Dot(axes=-1, normalize=True)(encoded)
    return keras.Model({"a": a, "b": b}, cosine if takes == "cosines" else 1.0 - cosine)


def test_each_trains_a_model_by_compile_and_fit_and_is_stored_with_it(name, tmp_path):
    loss = make(name)
    rng = np.random.default_rng(0)
    groups = np.arange(22) % 6
    middle = rng.normal(size=(6, 5))
    noise = 1.0 if name in OF_LISTED_PAIRS else 0.5  # With less, hardly any pair is hard.
    a, b = (middle[groups] + rng.normal(scale=noise, size=(22, 5)) for _ in range(2))
    labels = (groups % 2).astype("int64")
    if name in OF_LISTED_PAIRS:
        b[labels == 0] = -b[labels == 0]
        labels = labels if name == "CoSENT" else 1 - labels
    x = {"a": a} if loss.takes == "encodings" else {"a": a, "b": b}
    y = labels if name in OF_LISTED_PAIRS else groups
    model = build(loss.takes)
    compiled = "auto" if name == "Triplet" else False  # Compiling all of them takes long.
    model.compile(keras.optimizers.Adam(0.03), loss=loss, jit_compile=compiled)
    figures = model.fit(x, y, batch_size=8, epochs=5, verbose=0).history  # The last batch has 6.
    assert figures["loss"][-1] < 0.97 * figures["loss"][0]
    model.save(tmp_path / "model.keras")
    opened = keras.models.load_model(tmp_path / "model.keras")
    assert type(opened.loss) is type(loss)
    assert opened.loss.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Contrastive", {"margin": 0}, "`margin` must be a number above 0. Received: margin=0."),
        ("Contrastive", {"margin": "1"}, "Received: margin='1'"),
        ("Contrastive", {"positive_label": 2}, "must be one of 1, 0. Received: positive_label=2"),
        ("OnlineContrastive", {"margin": float("nan")}, "Received: margin=nan"),
        ("OnlineContrastive", {"positive_label": "1"}, "Received: positive_label='1'"),
        ("CoSENT", {"scale": -20.0}, "`scale` must be a number above 0. Received: scale=-20.0"),
        ("Triplet", {"margin": -1}, "Received: margin=-1"),
        ("Triplet", {"mining": "soft"}, "one of all, hard, semi-hard. Received: mining='soft'"),
        ("Triplet", {"distance": "l2"}, "`distance` must be one of euclidean.*distance='l2'"),
        ("Triplet", {"distance": []}, r"Received: distance=\[\]"),
        ("SupervisedContrastive", {"temperature": 0.0}, "Received: temperature=0.0"),
        ("MultiSimilarity", {"alpha": 0}, "Received: alpha=0"),
        ("MultiSimilarity", {"beta": float("inf")}, "Received: beta=inf"),
        ("MultiSimilarity", {"base": None}, "`base` must be a finite number. Received: base=None"),
        ("MultiSimilarity", {"epsilon": -0.1}, "`epsilon` must be at least 0.*epsilon=-0.1"),
        ("InBatchNegatives", {"temperature": None}, "Received: temperature=None"),
        ("InBatchNegatives", {"temperature": "fixed"}, "or 'learned'.*temperature='fixed'"),
        ("SigmoidPairs", {"temperature": -1}, "Received: temperature=-1"),
        ("SigmoidPairs", {"bias": float("inf")}, "Received: bias=inf"),
    ],
)
def test_options_out_of_their_range_are_refused_with_their_value(name, options, message):
    with pytest.raises(UserError, match=message):
        getattr(losses, name)(**options)


def test_outputs_of_another_shape_are_refused(name):
    loss = make(name)
    y_true, y_pred, _ = draw(loss)
    with pytest.raises(UserError, match=r"Received: y_pred.shape=\(10, 3, 4\)"):
        loss(y_true, np.zeros((10, 3, 4), "float32"))
    with pytest.raises(UserError, match=r"Received: y_true.shape=\(10, 4\)"):
        loss(np.zeros((10, 4)), y_pred)
    with pytest.raises(UserError, match=r"as many rows. Received: y_true.shape=\(9,\), y_pred"):
        loss(y_true[:9], y_pred)


@pytest.mark.parametrize("name", OF_BATCHES)
def test_groups_with_keys_are_columns_of_integers(name):
    loss = make(name)
    groups, y_pred, _ = draw(loss)
    num_keys = 2 if loss.takes == "pairs of encodings" else 1
    keys = np.arange(10 * num_keys).reshape(10, num_keys)
    keyed = np.concatenate([groups[:, None], keys], axis=1)
    assert float(loss(keyed, y_pred)) == float(loss(groups, y_pred))
    message = rf"integers: as floats, .*y_true.dtype=float32, y_true.shape=\(10, {1 + num_keys}\)"
    with pytest.raises(UserError, match=message):
        loss(keyed.astype("float32"), y_pred)
    with pytest.raises(UserError, match=rf"key.*shape \(batch, {1 + num_keys}\). Received"):
        loss(np.concatenate([keyed, keys], axis=1), y_pred)


@pytest.mark.parametrize("name", ["SupervisedContrastive", "InBatchNegatives"])
def test_keys_come_through_keras_fit_whole(name):
    """Keys that differ in their last bit alone stay different, and equal ones equal."""
    loss = make(name)
    num_keys = 2 if loss.takes == "pairs of encodings" else 1
    groups, x, _ = draw(loss, rows=8)
    keys = 2**62 + np.arange(8)[:, None] // 2 + 4 * np.arange(num_keys)
    targets = np.concatenate([groups[:, None], keys], axis=1)
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(4)])
    y_pred = model(x)
    model.compile("sgd", loss=loss)
    figures = model.fit(x, targets, batch_size=8, shuffle=False, verbose=0).history
    assert figures["loss"][0] == pytest.approx(float(loss(targets, y_pred)), rel=1e-5)
    assert figures["loss"][0] != pytest.approx(float(loss(groups, y_pred)), rel=1e-3)


def test_the_losses_load_nothing_of_the_package_but_its_errors():
    code = (
        "import sys\n"
        "from sharedlayers_dist import losses\n"
        "assert all(callable(getattr(losses, name)) for name in losses.__all__)\n"
        "names = {name.split('.')[1] for name in sys.modules if 'sharedlayers_dist.' in name}\n"
        "assert names == {'losses', 'errors'}, names"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_loss_imports_tensorflow():
    folder = Path(losses.__file__).parent
    assert not [path.name for path in folder.glob("*.py") if "tensorflow" in path.read_text()]
