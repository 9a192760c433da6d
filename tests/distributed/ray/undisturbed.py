"""One small training, which runs on clusters are compared with, whatever happens to them."""

from pathlib import Path

from tests import runs
from tests.distributed.launcher import run_ranks
from tests.distributed.pairs import write_text_pairs


def make_options(folder: Path, name: str, **options) -> dict:
    """Options of the run `name`, which is like the undisturbed one unless `options` say more."""
    own = {"head": "absolute_difference", "checkpoint_every": 2}
    return runs.make_options(folder / "train", folder / name, **own | options)


def train_undisturbed(folder: Path) -> None:
    """Writes pairs, and trains on them in one process."""
    write_text_pairs(folder / "train", 50)
    run_ranks("sharedlayers_dist", 1, "train", *runs.as_arguments(make_options(folder, "one")))


def assert_undisturbed(folder: Path, name: str) -> None:
    """The run has ended with the weights, the optimizer and the metrics of the undisturbed one."""
    runs.assert_same_tensors(folder / name, folder / "one")
