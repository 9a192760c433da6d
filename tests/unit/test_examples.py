"""The examples in docstrings are run, and every public name of these rooms has one."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import sharedlayers_dist

ROOT = Path(sharedlayers_dist.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(import_module(name), report=True)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("room", ["models", "losses", "evaluate"])
def test_every_public_name_has_an_example(room):
    package = import_module(f"sharedlayers_dist.{room}")
    without = [
        name
        for name in package.__all__
        if ">>>" not in (inspect.getdoc(getattr(package, name)) or "")
    ]
    assert without == []
