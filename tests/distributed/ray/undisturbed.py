"""One small training, which runs on clusters are compared with, whatever happens to them."""

from pathlib import Path

from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs
from tests.distributed.test_training import assert_same_tensors


def make_options(folder: Path, name: str, **options) -> dict:
    """Options of the run `name`, which is like the undisturbed one unless `options` say more."""
    return {
        "pairs": str(folder / "train"),
        "output": str(folder / name),
        "epochs": 2,
        "batch_size": 12,
        "learning_rate": 0.01,
        "head": "absolute_difference",
        "checkpoint_every": 2,
    } | options


def as_arguments(options: dict) -> list[str]:
    """Options as the command line takes them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def train_undisturbed(folder: Path) -> None:
    """Writes pairs, and trains on them in one process."""
    write_text_pairs(folder / "train", 50)
    run_ranks("sharedlayers_dist", 1, "train", *as_arguments(make_options(folder, "one")))


def assert_undisturbed(folder: Path, name: str) -> None:
    """The run has ended with the weights, the optimizer and the metrics of the undisturbed one."""
    for part in ("model", "optimizer", "metrics"):
        assert_same_tensors(folder / name, folder / "one", part)
