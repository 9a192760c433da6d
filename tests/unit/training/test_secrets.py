"""What a URI's options keep secret is in no file of a run, and not on the terminal."""

import re
import subprocess
import sys

import pytest

from sharedlayers_dist.cli import main
from tests.distributed.pairs import write_text_pairs

SECRET = "open-sesame"


def call(capsys, *arguments):
    """Exit code and terminal output of the command line, in this process."""
    code = 0
    try:
        main(list(arguments))
    except SystemExit as error:
        code = error.code or 0
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.fixture
def uri(tmp_path):
    """Makes URIs with a secret among their options, which pyarrow takes for files and ignores."""
    write_text_pairs(tmp_path / "pairs", 20)
    return lambda name, option: f"{(tmp_path / name).as_uri()}?{option}={SECRET}"


def test_a_run_shows_and_stores_no_secret_of_a_uri(tmp_path, uri, capsys):
    write_text_pairs(tmp_path / "others", 20)
    options = [
        "train",
        f"--pairs={uri('pairs', 'client_secret')}",
        f"--validation={uri('pairs', 'secret_key')}",
        f"--mix=0.5*{uri('others', 'session_token')}",
        f"--output={uri('run', 'sig')}",
        "--epochs=1",
        "--batch-size=12",
        "--tensorboard",
    ]
    command = [sys.executable, "-m", "sharedlayers_dist", *options]
    trained = subprocess.run(command, capture_output=True, text=True)
    assert trained.returncode == 0, trained.stderr
    assert SECRET not in trained.stdout + trained.stderr
    evaluate = [f"--run={uri('run', 'sig')}", f"--pairs={uri('pairs', 'sig')}"]
    for code, shown, arguments in (
        (2, f"output={str(tmp_path / 'run')!r}", options),
        (2, "none?sig=***", ["train", f"--pairs={uri('none', 'sig')}", "--output=other"]),
        (0, "roc_auc", ["evaluate", *evaluate, f"--output={tmp_path / 'evaluation'}"]),
    ):
        actual_code, text = call(capsys, *arguments)
        assert actual_code == code, text
        assert shown in text
        assert SECRET not in text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.json", "state.json", "metrics.json"} <= {path.name for path in files}
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    stored = (tmp_path / "run" / "config.json").read_text()
    assert len(re.findall(r"\?\w+=\*\*\*", stored)) == 4
