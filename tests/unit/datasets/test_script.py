"""What a script that makes a dataset refuses, as the command for it does."""

from __future__ import annotations

import pytest
import script
from cyclopts import App


def test_of_several_processes_none_makes_the_dataset(monkeypatch, capsys):
    """As under `horovodrun -np 2`: each would make all of it, in the same folder."""
    app, made = App(), []
    app.default(lambda: made.append(1))
    monkeypatch.setattr("sys.argv", ["digits.py"])
    monkeypatch.setenv("HOROVOD_SIZE", "2")
    monkeypatch.setenv("HOROVOD_RANK", "1")
    with pytest.raises(SystemExit) as ended:
        script.run(app)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("digits.py: Only one process may do this. Received: digits.py, 2 proce")
    assert told.count("\n") == 1
    assert made == []
