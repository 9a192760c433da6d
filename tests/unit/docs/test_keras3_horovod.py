"""The tables of the document name tests that there are; what it says of Keras is still so."""

from __future__ import annotations

import re
import textwrap
from importlib import import_module

import pytest

from tests.distributed.launcher import REPOSITORY
from tests.distributed.workers.cases import cases_of

DOCUMENT = REPOSITORY / "docs" / "keras3-horovod.md"


def test_every_row_names_a_test():
    workers = ("entering", "fitting", "telling", "watching", "wrapping", "zoo")
    known = {
        name for w in workers for name in cases_of(import_module(f"tests.distributed.workers.{w}"))
    }
    known |= {path.name for path in (REPOSITORY / "tests").rglob("test_*.py")}
    rows = [
        line.split("|")[-2]
        for table in DOCUMENT.read_text().split("| test |\n")[1:]
        for line in table.split("\n\n")[0].splitlines()[1:]
    ]
    assert len(rows) > 30
    for row in rows:
        names = re.findall(r"`([^`]+)`", row)
        assert names, row
        assert set(names) <= known, row


def test_keras_still_counts_a_batch_too_many(capsys):
    """Once it does not, the paragraph can go, and `_after` in gradients/step.py."""
    found = re.search(r"```python\n( +import keras\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    with pytest.warns(UserWarning, match="Your input ran out of data"):
        exec(textwrap.dedent(found[1]), {})
    assert float(capsys.readouterr().out) == pytest.approx(2 / 3)
