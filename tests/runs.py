"""Small training runs of the tests: their options, what they leave, and which are the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sharedlayers_dist.storage.folder import open_folder
from sharedlayers_dist.training.checkpoints.files import (
    Checkpoint,
    list_checkpoints,
    read_checkpoint,
)

MACHINE_FIGURES = frozenset(
    {
        "pairs_per_second",
        "data_wait_share",
        "collective_wait_share",
        "peak_memory_mb",
        "mining_seconds",
    }
)
"""What metrics.jsonl says of the machine, and not of the training."""


def make_options(pairs: Path | str, run: Path | str, **more: Any) -> dict[str, Any]:
    """Options of a run over 2 epochs, 12 pairs a step: of 50 pairs the last batch has 2."""
    return {
        "pairs": str(pairs),
        "output": str(run),
        "epochs": 2,
        "batch_size": 12,
        "learning_rate": 0.01,
    } | more


def as_arguments(options: dict[str, Any]) -> list[str]:
    """Options as the command line takes them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def read_lines(run: Path | str, *, of_machine: bool = True) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, with or without what they say of the machine."""
    lines = [json.loads(line) for line in open_folder(str(run)).read("metrics.jsonl").splitlines()]
    left_out = frozenset() if of_machine else MACHINE_FIGURES
    return [{k: v for k, v in line.items() if k not in left_out} for line in lines]


def read_last_checkpoint(run: Path | str) -> Checkpoint:
    """The checkpoint of a run's last step."""
    folder = open_folder(str(run))
    return read_checkpoint(folder, list_checkpoints(folder)[-1])


def assert_same_tensors(run: Path | str, expected: Path | str, part: str = "") -> None:
    """Both runs end at one step with the same tensors, to rounding; or those of one `part`.

    Each tensor is compared as a whole: RMSprop divides tiny gradients by their own size, and so
    turns the rounding of single entries into steps that are far from tiny.
    """
    last, wanted = read_last_checkpoint(run), read_last_checkpoint(expected)
    assert last.step == wanted.step
    assert last.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        if name.startswith(part):
            distance = np.linalg.norm(np.subtract(last.tensors[name], tensor, dtype=np.float64))
            assert distance <= 1e-4 * np.linalg.norm(tensor), name
