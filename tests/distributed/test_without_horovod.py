"""Several processes, in an environment whose Horovod is missing or cannot be used: one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.distributed.environments import without_packages
from tests.distributed.launcher import REPOSITORY
from tests.distributed.pairs import write_text_pairs

HOROVODRUN = Path(sys.executable).parent / "horovodrun"

REASONS = {
    ("horovodrun", False): "(rank 0): 2 ranks were started, but Horovod is not installed",
    (
        "horovodrun",
        True,
    ): "(rank 0): 2 ranks were started, but Horovod was built for",
    ("ray", False): "Ranks are to be started, but Horovod is not installed",
    ("ray", True): "but Horovod cannot be loaded: No module named 'horovod.runner'",
}


def leave_broken_horovod(packages: Path) -> None:
    """Puts a Horovod of another TensorFlow into an environment that has none."""
    (packages / "horovod-0.28.1.dist-info").mkdir()
    (packages / "horovod-0.28.1.dist-info" / "METADATA").write_text(
        "Name: horovod\nVersion: 0.28.1\n"
    )
    (packages / "horovod").mkdir()
    (packages / "horovod" / "__init__.py").write_text("")
    (packages / "horovod" / "metadata.json").write_text(json.dumps({"tensorflow": "2.0.0"}))


@pytest.mark.parametrize("is_there", [False, True], ids=["missing", "of another TensorFlow"])
@pytest.mark.parametrize("launcher", ["horovodrun", "ray"])
def test_it_is_told_in_one_line_with_a_remedy(tmp_path, launcher, is_there):
    pairs = write_text_pairs(tmp_path / "pairs", 12)
    environment = without_packages(tmp_path / "packages", "horovod")
    if is_there:
        leave_broken_horovod(tmp_path / "packages")
    path = f"{environment['PYTHONPATH']}{os.pathsep}{REPOSITORY}"
    # The launcher itself has its Horovod: as on a host whose environment differs.
    start = [str(HOROVODRUN), "-np", "2"] if launcher == "horovodrun" else []
    options = [] if launcher == "horovodrun" else ["--launcher", "ray"]
    command = [*start, "env", f"PYTHONPATH={path}", sys.executable, "-S", "-m", "sharedlayers_dist"]
    run = subprocess.run(
        [*command, "train", "--pairs", pairs, "--output", tmp_path / "run", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert run.returncode == 1, run.stdout
    told = [line for line in run.stdout.splitlines() if "sharedlayers" in line]
    assert len(told) == 1, run.stdout
    assert REASONS[launcher, is_there] in told[0], run.stdout
    assert "launch/setup.sh" in told[0], run.stdout
    frames = re.findall(r'File "(.*?)"', run.stdout)  # horovodrun shows those of its own.
    assert [f for f in frames if f != str(HOROVODRUN) and "horovod/runner" not in f] == []
    assert not (tmp_path / "run").exists()
