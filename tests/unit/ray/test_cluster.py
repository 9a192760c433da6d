"""Clusters that cannot be joined or started end in one line that says which of the two it was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).parent / "sharedlayers"


def run_command(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "train", "--launcher=ray", "--pairs=pairs", *options],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "nonsense"])
def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path, address):
    ended = run_command(f"--address={address}", f"--output={tmp_path / 'run'}")
    assert ended.returncode == 2
    *_, last = ended.stderr.splitlines()
    assert "No Ray cluster could be joined" in last
    assert address in last


def test_a_folder_that_a_cluster_cannot_be_started_in_is_told(tmp_path):
    deep = str(tmp_path / ("d" * 60))
    for place, told in [(deep, "bytes too long. Set TMPDIR"), ("/dev/null", "can be made and")]:
        ended = run_command("--address=local", f"--output={tmp_path / 'run'}", TMPDIR=place)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert f"TMPDIR='{place}" in line
        assert told in line
        assert "joined" not in line
