"""The tables of the documentation name tests that there are."""

from __future__ import annotations

import re
from importlib import import_module

from tests.distributed.launcher import REPOSITORY
from tests.distributed.workers.cases import cases_of

DOCUMENT = REPOSITORY / "docs" / "keras3-horovod.md"


def test_every_row_names_a_test():
    workers = ("entering", "fitting", "watching", "wrapping", "zoo")
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
