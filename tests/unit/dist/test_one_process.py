"""With one rank the binding adds nothing to a graph, and changes nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sharedlayers_dist import dist


def operations(callbacks: list[keras.callbacks.Callback], wrap) -> list[str]:
    """Returns the types of all operations of a training step's graph."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(wrap(keras.optimizers.Adam()), "mse", metrics=["mae"])
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0, callbacks=callbacks)
    step = tf.function(model.train_step).get_concrete_function(
        (tf.TensorSpec((None, 3)), tf.TensorSpec((None, 1)))
    )
    graph = step.graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    return sorted(node.op for node in nodes)


def test_the_graph_is_that_of_plain_keras():
    plain = operations([], lambda optimizer: optimizer)
    ours = operations(
        [*dist.default_callbacks(), dist.LearningRateWarmup()],
        lambda optimizer: dist.DistributedOptimizer(optimizer, backward_passes_per_step=1),
    )
    assert ours == plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "mean"}, "op='mean'"),
        ({"compression": "fp16"}, "compression='fp16'"),
        ({"backward_passes_per_step": 0.5}, "backward_passes_per_step=0.5"),
        ({"gradient_predivide_factor": -1.0}, "gradient_predivide_factor=-1"),
        ({"groups": 0}, "groups=0"),
        ({"groups": [keras.Variable(1.0)]}, "list of lists"),
    ],
)
def test_options_are_checked_on_one_rank_too(options, message):
    with pytest.raises(ValueError, match=message):
        dist.DistributedOptimizer(keras.optimizers.SGD(), **options)


def test_prepare_leaves_the_model_alone():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    before = dict(model.__dict__)
    assert dist.prepare(model) is model
    assert model.__dict__ == before


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_loss_logged_is_the_mean_over_the_samples_that_are_counted(jit_compile):
    """Of two batches the second is a row that is no sample: label -1 and weight 0."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    model.compile(
        dist.DistributedOptimizer(keras.optimizers.SGD(0.0)),
        "binary_crossentropy",
        weighted_metrics=["accuracy"],
        jit_compile=jit_compile,
    )
    x, y, weight = np.eye(3), np.array([[1.0], [0], [-1]]), np.array([1.0, 0.5, 0])
    data = tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(2)
    scores = model.predict(x, verbose=0)
    dist.prepare(model, num_samples=lambda x, y, weight: tf.math.count_nonzero(y >= 0))
    history = model.fit(data, validation_data=data, shuffle=False, verbose=0).history
    expected = (-np.log(scores[0]) - 0.5 * np.log(1 - scores[1])) / 2
    assert history["loss"] == pytest.approx(expected, rel=1e-5)
    assert history["val_loss"] == pytest.approx(expected, rel=1e-5)
    accuracy = ((scores[0] > 0.5) + 0.5 * (scores[1] <= 0.5)) / 1.5
    assert history["accuracy"] == history["val_accuracy"] == pytest.approx(accuracy)


def test_an_error_is_raised_as_it_is():
    error = OSError("disk full")
    with pytest.raises(OSError, match="disk full") as raised:
        dist.raise_on_all_ranks(error)
    assert raised.value is error


def test_allreduce_sum_adds_in_double_precision():
    sums = dist.allreduce_sum([np.float32(1), np.ones((2, 0), bool), [True, False]])
    assert [s.dtype for s in sums] == [np.float64, np.int64, np.int64]
    assert [s.shape for s in sums] == [(), (2, 0), (2,)]
