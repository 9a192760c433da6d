"""Losses in blocks of anchors are those of one block, in the memory of a block."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from sharedlayers_dist import losses
from sharedlayers_dist.losses import blocks

IN_BLOCKS = {
    "triplet all": lambda: losses.Triplet(mining="all"),
    "triplet hard": lambda: losses.Triplet(mining="hard", distance="squared_euclidean"),
    "triplet semi-hard": lambda: losses.Triplet(mining="semi-hard", distance="cosine"),
    "supervised contrastive": losses.SupervisedContrastive,
    "multi-similarity": losses.MultiSimilarity,
    "in-batch negatives": losses.InBatchNegatives,
    "one side": lambda: losses.InBatchNegatives(temperature="learned", symmetric=False),
    "sigmoid pairs": lambda: losses.SigmoidPairs(bias=-2.0),
    "cosent": lambda: losses.CoSENT(scale=5.0),
}
"""All losses that compare each row of a batch with each."""
ROWS = 23
ENTRIES = 100
"""Of a block: 23 rows are six blocks of 4, the last of which begins with a row that was in one."""

modes = pytest.mark.parametrize("mode", ["eager", "graph", "XLA"])
every_loss = pytest.mark.parametrize("make", IN_BLOCKS.values(), ids=IN_BLOCKS)


def draw(loss, rows=ROWS, dtype="float32"):
    """Targets with rows that are no items and with keys, outputs and weights."""
    rng = np.random.default_rng(0)
    weights = rng.choice([0.0, 0.5, 1.0, 3.0], rows).astype(dtype)
    if loss.takes == "cosines":
        return rng.integers(0, 4, rows), rng.uniform(-1, 1, (rows, 1)).astype(dtype), weights
    sides = (2,) if loss.takes == "pairs of encodings" else ()
    groups, keys = rng.integers(-1, 7, (rows, 1)), rng.integers(0, 30, (rows, *(sides or (1,))))
    return (
        np.concatenate([groups, keys], axis=1),
        rng.normal(size=(rows, *sides, 5)).astype(dtype),
        weights,
    )


def compute(loss, mode, y_true, y_pred, weights):
    """The loss and its gradients by outputs and weights, of a batch whose size isn't known."""

    def run(y_true, y_pred, weights):
        with tf.GradientTape() as tape:
            tape.watch([y_pred, weights])
            value = loss(y_true, y_pred, weights)
        return value, *tape.gradient(value, [y_pred, weights])

    arrays = [tf.constant(array) for array in (y_true, y_pred, weights)]
    if mode != "eager":
        signature = [tf.TensorSpec([None, *array.shape[1:]], array.dtype) for array in arrays]
        run = tf.function(run, input_signature=signature, jit_compile=mode == "XLA")
    return [array.numpy() for array in run(*arrays)]


def assert_equal(found, expected, rtol=1e-5):
    """To rounding, beside the largest number of each array."""
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@modes
@every_loss
def test_several_blocks_are_one_in_value_and_gradients(make, mode, monkeypatch):
    loss = make()
    batch = draw(loss)
    expected = compute(loss, "eager", *batch)
    assert expected[0] > 0
    assert np.abs(expected[1]).max() > 0
    monkeypatch.setattr(blocks, "ENTRIES", ENTRIES)
    assert_equal(compute(loss, mode, *batch), expected)


@modes
def test_one_block_is_the_same_however_it_is_run(mode):
    """Semi-hard, which sorts and gathers, so that XLA compiles these of blocks without rows."""
    batch = draw(losses.Triplet())
    expected = losses.Triplet()(*batch)
    assert_equal(compute(losses.Triplet(), mode, *batch)[:1], [expected.numpy()])


@every_loss
def test_several_blocks_in_64_bits(make, monkeypatch):
    keras.config.set_floatx("float64")
    try:
        loss = make()
        batch = draw(loss, dtype="float64")
        expected = compute(loss, "eager", *batch)
        monkeypatch.setattr(blocks, "ENTRIES", ENTRIES)
        assert_equal(compute(loss, "graph", *batch), expected, rtol=1e-12)
    finally:
        keras.config.set_floatx("float32")


@every_loss
def test_an_output_that_is_nan_shows_whichever_block_it_is_in(make, monkeypatch):
    monkeypatch.setattr(blocks, "ENTRIES", ENTRIES)
    for row in (0, 9, ROWS - 1):
        loss = make()
        _, y_pred, _ = draw(loss)
        y_pred[row] = np.nan
        assert np.isnan(float(loss(np.arange(ROWS) % 5, y_pred)))


@pytest.mark.parametrize("rows", [1, 4, 5, 9, 10, 11, 13, 16, 17, 100, 101, 250])
def test_each_row_is_new_in_one_block_and_blocks_are_small(rows, monkeypatch):
    monkeypatch.setattr(blocks, "ENTRIES", ENTRIES)
    sizes, new = [], []

    def compute(block, numbers):
        taken = block.take(numbers).numpy()
        np.testing.assert_array_equal(taken, ops.convert_to_numpy(block.places))
        sizes.append(len(taken))
        new.extend(taken[ops.convert_to_numpy(block.is_new)])
        return 0.0

    blocks.fold_blocks(compute, ops.add, 0.0, ops.arange(rows))
    assert new == list(range(rows))
    assert max(sizes) <= max(1, ENTRIES // rows)
    assert len(sizes) == -(-rows // max(1, ENTRIES // rows))
    assert sum(sizes) < rows + len(sizes)


def test_a_batch_of_no_rows_is_one_block():
    found = blocks.fold_blocks(lambda block, x: ops.sum(block.take(x)), ops.add, 7.0, ops.zeros(0))
    assert float(found) == 7.0


STEP = """
import resource, sys
import numpy as np, tensorflow as tf
from sharedlayers_dist.losses import blocks
from tests.unit.losses.test_blocks import IN_BLOCKS

loss, rows = IN_BLOCKS[sys.argv[1]](), int(sys.argv[2])
shape = {"encodings": (64,), "pairs of encodings": (2, 64), "cosines": (1,)}[loss.takes]


@tf.function(input_signature=[tf.TensorSpec([None]), tf.TensorSpec([None, *shape])])
def step(y_true, y_pred):
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        value = loss(tf.cast(y_true, "int64"), y_pred)
    return tape.gradient(value, y_pred)


draw = np.random.default_rng(0).normal
groups, outputs = np.arange(rows, dtype="float32") // 2, draw(size=(rows, *shape))
assert np.abs(step(groups, outputs.astype("float32"))).max() > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@every_loss
def test_a_batch_of_16384_takes_the_memory_of_a_block(make, request):
    """MiB at the peak of a process; one matrix of the whole batch has 1,024 of them."""
    name = request.node.callspec.id
    # Sorting takes minutes: 4,096 rows are 16 blocks, and a matrix of them has 64 MiB.
    rows, most = (4096, 300) if name in ("triplet all", "triplet semi-hard") else (16384, 500)

    def peak(rows):
        command = [sys.executable, "-c", STEP, name, str(rows)]
        return int(subprocess.run(command, check=True, capture_output=True, timeout=280).stdout)

    small, large = peak(512), peak(rows)
    assert large - small < most, (small, large)
