"""The private names of Keras, with every version of it that setup.py allows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.distributed.launcher import REPOSITORY

USERS = ["tests/unit/dist/gradients/test_keras_hooks.py", "tests/unit/models/test_graph.py"]


def pip(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_private_names_are_there_in_every_version_that_is_allowed(tmp_path):
    bounds = re.search(r'"keras([<>=!~][^"]*)"', (REPOSITORY / "setup.py").read_text())
    assert bounds is not None
    asked = pip("index", "versions", "keras")
    listed = re.search(r"Available versions: (.*)", asked.stdout)
    if listed is None:
        pytest.skip(f"No package registry could be asked for Keras's versions: {asked.stderr}")
    allowed = sorted(SpecifierSet(bounds[1]).filter(listed[1].split(", ")), key=Version)
    assert keras.__version__ in allowed
    for version in allowed:
        if version != keras.__version__:
            run_with(version, tmp_path / version)


def run_with(version: str, folder: Path) -> None:
    """Runs the tests of the private names with another version of Keras than the installed one."""
    installed = pip("install", "--quiet", "--no-deps", "--target", folder, f"keras=={version}")
    assert installed.returncode == 0, installed.stderr
    environment = os.environ | {"PYTHONPATH": str(folder)}
    found = subprocess.run(
        [sys.executable, "-c", "import keras; print(keras.__version__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == version
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *USERS],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"With Keras {version}:\n{run.stdout[-4000:]}"
