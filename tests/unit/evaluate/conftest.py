"""A trained run that the tests of this folder use."""

import shutil

import pytest

from sharedlayers_dist import TrainConfig, train
from tests.distributed.pairs import write_text_pairs


@pytest.fixture(scope="package")
def trained(tmp_path_factory):
    """The folder of a run on texts, which tests only read."""
    folder = tmp_path_factory.mktemp("trained")
    pairs = write_text_pairs(folder / "pairs", 30)
    output = folder / "run"
    train(TrainConfig(pairs=str(pairs), output=str(output), epochs=1, batch_size=10, head="cosine"))
    return output


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")
