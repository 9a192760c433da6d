"""How often a run traces its step and compiles programs, in a process that is told to say so."""

import os
import re
import subprocess
import sys

from tests.distributed.pairs import write_text_pairs

CODE = """
import sys
import keras
from sharedlayers_dist import TrainConfig, train

calls = 0

def count(values):
    global calls
    calls += 1
    return values

class AfterEpoch(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print("calls", calls)

def build():
    layers = [keras.layers.LSTM(4), keras.layers.Dense(2, activation=count)]
    return keras.Sequential([keras.Input((40, 256)), *layers])

config = TrainConfig(pairs=sys.argv[1], output=sys.argv[2], batch_size=80, epochs=4, log_every=1)
train(config, [AfterEpoch()], build=build)
"""
LENGTHS = 5
PROGRAMS = ("run_traced", "go_back")


def test_a_step_is_traced_once_and_programs_serve_all_lengths(tmp_path):
    """In epochs of five steps, the last of which is short, over texts of all lengths."""
    pairs = write_text_pairs(tmp_path / "pairs", 330)
    done = subprocess.run(
        [sys.executable, "-c", CODE, pairs, tmp_path / "run"],
        env=os.environ
        | {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "device_compilation_profiler=1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    calls = re.findall(r"calls (\d+)", done.stdout)
    assert len(calls) == 4
    assert len(set(calls)) == 1
    compiled = re.findall(r"Compiled __inference__(\w+?)_\d+ \d+ times", done.stderr)
    assert set(compiled) == set(PROGRAMS)
    for program in PROGRAMS:  # For each length of chunks, and for the path of zeros.
        assert compiled.count(program) <= LENGTHS + 1
