"""Gradients of rows are made dense where TensorFlow sees a GPU, in one process too."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import dist
from sharedlayers_dist.dist.gradients.rows import make_dense_on_gpu


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that TensorFlow seems to see; what is computed stays on the CPU."""
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["GPU"])


def rows():
    """Rows 1, 1 and 2 of three."""
    return tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0]]), tf.constant([1, 1, 2]), (3, 1))


def updated(gradient):
    """The variable after one step of an optimizer that looks at squares."""
    variable = keras.Variable(np.zeros((3, 1), "float32"))
    optimizer = dist.DistributedOptimizer(keras.optimizers.Adam(0.1, epsilon=1.0))
    with dist.local_batch(3):
        optimizer.apply([gradient], [variable])
    return variable.numpy()


def test_rows_stay_rows_on_a_cpu():
    gradients = [rows(), tf.ones(2), None]
    assert all(x is y for x, y in zip(make_dense_on_gpu(gradients), gradients, strict=True))


def test_rows_become_dense_on_a_gpu_and_none_stays_none(gpu):
    dense, ones, none = make_dense_on_gpu([rows(), tf.ones(2), None])
    assert dense.numpy().tolist() == [[0.0], [3.0], [4.0]]
    assert ones.numpy().tolist() == [1.0, 1.0]
    assert none is None


def test_one_process_on_a_gpu_updates_by_the_sum_of_equal_rows(gpu):
    np.testing.assert_allclose(updated(rows()), updated(tf.convert_to_tensor(rows())), rtol=1e-6)


def test_it_stays_the_plain_optimizer(gpu):
    optimizer = dist.DistributedOptimizer(dist.DistributedOptimizer(keras.optimizers.Adam()))
    assert keras.optimizers.serialize(optimizer)["class_name"] == "Adam"
