"""With one rank an optimizer adds nothing to a graph; its options are checked all the same."""

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
