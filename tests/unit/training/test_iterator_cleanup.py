"""A training that fails leaves no iterator behind: one that goes with the process never ends."""

import gc
import subprocess
import sys

import keras
import pytest
from tensorflow.python.data.ops.iterator_ops import OwnedIterator

from sharedlayers_dist import TrainConfig, train
from tests.distributed.launcher import REPOSITORY
from tests.distributed.pairs import write_text_pairs

CODE = """
import sys, time
import keras
from sharedlayers_dist import TrainConfig, train
from sharedlayers_dist.data.reading.prefetch import PrefetchIterator

read, num_read = PrefetchIterator.__next__, 0

def read_slowly(self):
    global num_read
    num_read += 1
    if num_read > 3:
        time.sleep(1)
    return read(self)

PrefetchIterator.__next__ = read_slowly

class Fail(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise LookupError("enough")

train(TrainConfig(pairs=sys.argv[1], output=sys.argv[2], batch_size=2), [Fail()])
"""


class Fail(keras.callbacks.Callback):
    def __init__(self, where):
        super().__init__()
        self._where = where

    def on_train_batch_end(self, batch, logs=None):
        if self._where == "training":
            raise LookupError("enough")

    def on_test_batch_end(self, batch, logs=None):
        if self._where == "validation":
            raise LookupError("enough")


def find_iterators():
    return [it for it in gc.get_objects() if isinstance(it, OwnedIterator)]


@pytest.mark.parametrize("where", ["training", "validation"])
def test_iterators_end_with_the_training_although_the_error_is_kept(tmp_path, where):
    pairs = str(write_text_pairs(tmp_path / "pairs", 20))
    config = TrainConfig(
        pairs=pairs, validation=pairs, output=str(tmp_path / "run"), epochs=1, batch_size=4
    )
    before = find_iterators()  # Other tests may have left some.
    with pytest.raises(LookupError, match="enough") as error:
        train(config, [Fail(where)])
    assert all(any(it is old for old in before) for it in find_iterators()), error


def test_a_process_that_failed_while_it_read_ahead_ends(tmp_path):
    write_text_pairs(tmp_path / "pairs", 20)
    ended = subprocess.run(
        [sys.executable, "-c", CODE, tmp_path / "pairs", tmp_path / "run"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.rstrip().endswith("LookupError: enough")
