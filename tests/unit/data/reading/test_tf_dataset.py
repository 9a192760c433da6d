"""Batches into a real `model.fit`."""

import gc
import threading

import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from sharedlayers_dist.data import as_tf_dataset, index_dataset
from sharedlayers_dist.world import World
from tests.unit.data.samples import image_table, open_pairs, text_table, with_column, write_dataset


def open_reader(folder, *, rank=0, size=1, **options):
    return open_pairs(
        index_dataset(str(folder)),
        alphabet="0123456789ab",
        batch_size=8,
        seed=1,
        world=World(rank=rank, size=size),
        **{"num_streams": 4, **options},
    )


def count_threads():
    gc.collect()
    return sum(thread.name.startswith("sharedlayers") for thread in threading.enumerate())


class Recorder(keras.Model):
    """Keeps the row that each sample of each training step says it is."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.steps = []

    def call(self, x):
        last = keras.ops.cast(x["a"][:, -2:], "float32")  # Ids of two digits, one more than each.
        return self.dense(last)

    def train_step(self, data):
        x, y, weight = data
        self.steps.append((x["a"].numpy(), x["b"].numpy(), y.numpy(), weight.numpy()))
        return super().train_step(data)


class Position(keras.callbacks.Callback):
    """Tells the dataset which epoch begins, as a trainer does."""

    def __init__(self, start_step=0):
        super().__init__()
        self.at = (0, start_step)

    def on_epoch_begin(self, epoch, logs=None):
        self.at = (epoch, self.at[1] if epoch == self.at[0] else 0)


@pytest.fixture
def fit():
    def run(reader, epochs):
        position, model = Position(), Recorder()
        model.compile(loss="mse", optimizer="sgd", run_eagerly=True)
        dataset = as_tf_dataset(reader, lambda: position.at)
        history = model.fit(dataset, epochs=epochs, callbacks=[position], verbose=0, shuffle=False)
        return model.steps, history

    return run


def test_fit_takes_the_epochs_batches_in_the_order_of_the_plan(tmp_path, fit):
    reader = open_reader(write_dataset(tmp_path, [[15], [12]]))
    steps, history = fit(reader, epochs=3)
    expected = [batch for epoch in range(3) for batch in reader.batches(epoch)]
    assert len(steps) == len(expected) == 3 * reader.steps_per_epoch == 12
    for (a, b, y, weight), batch in zip(steps, expected, strict=True):
        assert (a.dtype, y.dtype, weight.dtype) == (np.uint16, np.float32, np.float32)
        np.testing.assert_array_equal(a, batch.a)
        np.testing.assert_array_equal(b, batch.b)
        np.testing.assert_array_equal(y, batch.label)
        np.testing.assert_array_equal(weight, batch.weight)
    assert len(history.history["loss"]) == 3
    assert count_threads() == 0


def test_a_dataset_that_starts_in_mid_epoch_serves_the_rest_of_it(tmp_path):
    reader = open_reader(write_dataset(tmp_path, [[15], [12]]))
    dataset = as_tf_dataset(reader, lambda: (5, 2))
    assert int(dataset.cardinality()) == 2
    rest = [batch.label.tolist() for batch in reader.batches(5, 2)]
    assert [y.numpy().tolist() for _, y, _ in dataset] == rest
    assert [y.numpy().tolist() for _, y, _ in dataset] == rest  # No hidden state.


def test_rows_that_were_skipped_never_reach_keras(tmp_path):
    """Of the second and the last batch none is left, and of the others one row is missing."""
    bad = {0, 15, *range(8, 16), 17, *range(24, 27)}
    table = with_column(text_table(27), "label", [9 if i in bad else i % 2 for i in range(27)])
    pq.write_table(table, tmp_path / "1.parquet")
    reader = open_reader(tmp_path, on_bad_row="skip", shuffle=False, num_streams=1)
    samples: dict[int, int] = {}
    batches = list(as_tf_dataset(reader, lambda: (0, 0), on_batch=samples.__setitem__))
    assert samples == {0: 7, 1: 0, 2: 7, 3: 0}
    assert [y.numpy()[:, 0].tolist() for _, y, _ in batches] == [
        [1, 0, 1, 0, 1, 0, 1],
        [-1],
        [0, 0, 1, 0, 1, 0, 1],
        [-1],
    ]
    assert [weight.numpy().tolist() for _, _, weight in batches] == [[1] * 7, [0], [1] * 7, [0]]
    assert batches[1][0]["a"].shape == (1, 280)
    assert reader.stats.num_bad_rows == len(bad)


def test_a_graph_is_traced_once_for_batches_of_any_length(tmp_path):
    reader = open_reader(write_dataset(tmp_path, [[15], [12]]), rank=1, size=3)
    traces = []

    @tf.function
    def take(iterator):  # As Keras does it.
        x, y, _ = next(iterator)
        traces.append(x["a"].shape)
        return tf.shape(y)[0]

    iterator = iter(as_tf_dataset(reader, lambda: (0, 0)))
    lengths = [int(take(iterator)) for _ in range(reader.steps_per_epoch)]
    assert len(set(lengths)) > 1
    assert [shape.as_list() for shape in traces] == [[None, 280]]


def test_images_keep_their_shape_and_type(tmp_path):
    reader = open_reader(write_dataset(tmp_path, [[5]], image_table))
    spec = as_tf_dataset(reader, lambda: (0, 0)).element_spec[0]["a"]
    assert (spec.shape.as_list(), spec.dtype) == ([None, 3, 2, 1], tf.uint8)


def test_looking_at_one_batch_leaves_no_thread_behind(tmp_path):
    reader = open_reader(write_dataset(tmp_path, [[500]]))
    iterator = iter(as_tf_dataset(reader, lambda: (0, 0)))
    next(iterator)
    assert count_threads() > 0
    del iterator
    assert count_threads() == 0


def test_threads_end_when_training_fails(tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyError

    reader = open_reader(write_dataset(tmp_path, [[500]]))
    model = Recorder()
    model.compile(loss="mse", optimizer="sgd", run_eagerly=True)
    with pytest.raises(KeyError):
        model.fit(as_tf_dataset(reader, lambda: (0, 0)), callbacks=[Fails()], shuffle=False)
    assert count_threads() == 0


def test_the_readers_own_error_can_be_had_beside_tensorflows(tmp_path):
    pq.write_table(with_column(text_table(9), "label", [2] * 9), tmp_path / "1.parquet")
    reader = open_reader(tmp_path)
    with pytest.raises(tf.errors.InvalidArgumentError, match="its label is 2"):
        next(iter(as_tf_dataset(reader, lambda: (0, 0))))
    assert str(reader.stats.error).startswith(
        f"{tmp_path}/1.parquet, row group 0, row 0: its label is 2"
    )
    assert count_threads() == 0


def test_nothing_is_tuned_which_the_end_of_an_epoch_would_wait_for(tmp_path):
    write_dataset(tmp_path, [[20]])
    dataset = as_tf_dataset(open_reader(tmp_path), lambda: (0, 0))
    assert dataset.options().autotune.enabled is False
