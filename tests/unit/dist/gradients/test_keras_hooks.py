"""Each private name of Keras that `dist` uses still does what it is used for.

The slow test at the end runs the others with every other version in setup.py's bounds.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from sharedlayers_dist import dist as package
from sharedlayers_dist.dist.gradients import keras_hooks
from tests.distributed.launcher import REPOSITORY

USERS = ["tests/unit/dist/gradients/test_keras_hooks.py", "tests/unit/models/test_graph.py"]
X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.ones((4, 1), np.float32)


@pytest.fixture
def model() -> keras.Model:
    """A compiled model without known shapes, one of whose layers drops all of its inputs."""
    model = keras.Sequential([keras.layers.Dropout(0.999, seed=1), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def test_is_built_looks_into_nested_models():
    inner = keras.Sequential([keras.layers.Dense(1)])
    outer = keras.Sequential([inner])
    assert not keras_hooks.is_built(outer)
    outer.build((None, 3))
    assert keras_hooks.is_built(outer)


def test_build_for_batch_makes_all_variables(model):
    keras_hooks.build_for_batch(model, (X, Y))
    assert keras_hooks.is_built(model)
    assert model.optimizer.built
    assert {metric.name for metric in model.metrics} >= {"loss"}
    assert all(metric.variables for metric in keras_hooks.loss_trackers(model))


def test_call_in_training_gives_the_training_argument(model):
    model.build((None, 3))
    assert not np.allclose(keras_hooks.call_in_training(model, X), model(X))
    inputs = keras.Input((3,))
    plain = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    np.testing.assert_allclose(keras_hooks.call_in_training(plain, X), plain(X))


def test_compute_loss_in_training_is_that_of_the_compiled_loss(model):
    y_pred = tf.zeros((4, 1))
    weights = tf.constant([1.0, 1.0, 0.0, 0.0])
    loss = keras_hooks.compute_loss_in_training(model, X, tf.constant(Y), y_pred, weights)
    assert float(loss) == pytest.approx(0.5)


def test_loss_trackers_are_those_of_the_model_and_its_outputs():
    inputs = keras.Input((3,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in ("one", "two")]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"one": "mse", "two": "mae"})
    keras_hooks.build_for_batch(model, (X, {"one": Y, "two": Y}))
    names = [tracker.name for tracker in keras_hooks.loss_trackers(model)]
    assert names == ["loss", "one_loss", "two_loss"]
    model.fit(X, {"one": Y, "two": Y}, verbose=0)
    values = [float(tracker.result()) for tracker in keras_hooks.loss_trackers(model)]
    assert values[0] == pytest.approx(values[1] + values[2])
    assert values[0] > 0


def test_has_mask():
    tokens = tf.constant([[1, 2, 0]])
    assert keras_hooks.has_mask(keras.layers.Embedding(4, 2, mask_zero=True)(tokens))
    assert not keras_hooks.has_mask(keras.layers.Embedding(4, 2)(tokens))


def test_learning_rate_of():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    assert keras_hooks.learning_rate_of(keras.optimizers.SGD(schedule)) is schedule
    inner = keras.optimizers.SGD(0.25)
    rate = keras_hooks.learning_rate_of(keras.optimizers.LossScaleOptimizer(inner))
    assert isinstance(rate, keras.Variable)
    inner.learning_rate = 0.5
    assert float(rate) == 0.5


def test_trainable_variables_of():
    variables = [keras.Variable([1.0]), keras.Variable([2.0])]
    optimizer = keras.optimizers.SGD()
    optimizer.build(variables)
    found = keras_hooks.trainable_variables_of(optimizer)
    assert [id(v) for v in found] == [id(v) for v in variables]


def test_batch_normalization_takes_the_moments_of_the_method():
    class Shifted(keras_hooks.BatchNormalizationByMoments):
        def moments(self, inputs, mask):
            assert self.reduced_axes == [0]
            mean, variance = super().moments(inputs, mask)
            return mean + 1.0, variance

    layer = Shifted(epsilon=1e-6)
    plain = keras.layers.BatchNormalization(epsilon=1e-6)
    shift = plain(X, training=True) - layer(X, training=True)
    np.testing.assert_allclose(shift, np.broadcast_to(1 / X.std(axis=0), X.shape), rtol=1e-5)


def test_functions_of_batches_are_noted():
    keras_hooks.note_functions_of_batches()

    def make(function):
        return keras.metrics.MeanMetricWrapper(function)

    of_batch = make(lambda y_true, y_pred: tf.reduce_mean(y_true * y_pred))
    of_sample = make(lambda y_true, y_pred: tf.reduce_mean(y_true * y_pred, axis=-1))
    for metric in (of_batch, of_sample):
        metric.update_state(tf.constant(Y), tf.constant(Y))
        assert float(metric.result()) == 1.0
    assert keras_hooks.gives_one_number_a_batch(of_batch)
    assert not keras_hooks.gives_one_number_a_batch(of_sample)


def test_no_other_module_of_dist_reads_a_private_name_of_another_object():
    folder = Path(package.__file__).parent
    allowed = {"_distribution"}  # What `DistributedOptimizer` itself leaves with an optimizer.
    for path in folder.rglob("*.py"):
        if path.name == "keras_hooks.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or node.attr in allowed:
                continue
            is_private = node.attr.startswith("_") and not node.attr.endswith("__")
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert is_own or not is_private, f"{path.name}:{node.lineno} reads {node.attr}"


def pip(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_private_names_are_there_in_every_version_that_is_allowed(tmp_path):
    bounds = re.search(r'"keras([<>=!~][^"]*)"', (REPOSITORY / "setup.py").read_text())
    assert bounds is not None
    asked = pip("index", "versions", "keras")
    listed = re.search(r"Available versions: (.*)", asked.stdout)
    if listed is None:
        pytest.skip(f"No package registry could be asked for Keras's versions: {asked.stderr}")
    allowed = sorted(SpecifierSet(bounds[1]).filter(listed[1].split(", ")), key=Version)
    assert keras.__version__ in allowed
    for version in allowed:
        if version != keras.__version__:
            run_with(version, tmp_path / version)


def run_with(version: str, folder: Path) -> None:
    """Runs the tests of the private names with another version of Keras than the installed one."""
    installed = pip("install", "--quiet", "--no-deps", "--target", folder, f"keras=={version}")
    assert installed.returncode == 0, installed.stderr
    environment = os.environ | {"PYTHONPATH": str(folder)}
    found = subprocess.run(
        [sys.executable, "-c", "import keras; print(keras.__version__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == version
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *USERS],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"With Keras {version}:\n{run.stdout[-4000:]}"
