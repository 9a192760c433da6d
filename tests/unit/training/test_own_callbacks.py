"""Callbacks of a user's own come into a run by the name of the function that makes them."""

import json

import pytest

from tests.distributed.pairs import write_text_pairs
from tests.own_callbacks import read_notes, write_callbacks
from tests.runs import as_arguments, make_options


@pytest.fixture
def train(command, tmp_path):
    """Trains by the command line; returns exit code and standard error."""
    pairs = write_text_pairs(tmp_path / "pairs", 24)

    def train(name):
        options = make_options(pairs, tmp_path / "run", callbacks=name)
        code, _, err = command("train", *as_arguments(options))
        return code, err

    return train


def test_they_are_called_and_may_use_modules_beside_their_file(train, tmp_path):
    name = write_callbacks(tmp_path)
    code, err = train(name)
    assert code == 0, err
    assert read_notes(tmp_path, 0) == ["begin", "epoch 1", "epoch 2", "end"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["callbacks"] == name


def test_they_may_stand_in_a_module(train, tmp_path, monkeypatch):
    write_callbacks(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, err = train("own_callbacks:make")
    assert code == 0, err
    assert read_notes(tmp_path, 0)[-1] == "end"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("make_none", "returns a list of Keras callbacks. Received: callbacks="),
        ("make_class", "returns a list of Keras callbacks. Received: callbacks="),
        ("take_nothing", "is called with the run's TrainConfig. Received: callbacks="),
        ("something", "A function must be in its module"),
        ("absent", "The module has make, Notes, make_none"),
    ],
)
def test_a_function_that_makes_none_is_told_in_one_line(train, tmp_path, function, said):
    name = write_callbacks(tmp_path).replace(":make", f":{function}")
    code, err = train(name)
    assert code == 2
    (line,) = [line for line in err.splitlines() if "rank(s)" not in line]
    assert said in line


@pytest.mark.parametrize("name", ["mlflow", "none.py:make", "no_module_of_mine:make", ":make"])
def test_what_names_no_function_is_told_before_anything_is_written(train, tmp_path, name):
    code, err = train(name)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()
