"""A run that has ended, trained once for the tests of several modules."""

import shutil

import pytest

from sharedlayers_dist import train
from tests.distributed.pairs import write_text_pairs
from tests.unit.training.finished_run import config


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a dataset, `pairs`, and a finished run of 2 epochs of 2 steps, `run`."""
    folder = tmp_path_factory.mktemp("trained")
    write_text_pairs(folder / "pairs", 20)
    train(config(folder, "run"))
    return folder


@pytest.fixture
def run(trained):
    """A copy of the finished run, under a name of its own."""
    shutil.rmtree(trained / "copy", ignore_errors=True)
    shutil.copytree(trained / "run", trained / "copy")
    return trained / "copy"
