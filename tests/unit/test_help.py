"""The help of each command shows its options by subject, with what they take, and loads little."""

import os
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import pytest

from sharedlayers_dist.config import (
    EvaluateConfig,
    InspectConfig,
    PairsConfig,
    PredictConfig,
    TrainConfig,
)

WIDE = os.environ | {"COLUMNS": "400"}
"""An environment in which no line of the help is broken."""
OF_FILE = "Options from a file"
SUBJECTS = {
    "models": [],
    "doctor": [],
    "describe": ["Parameters"],
    "pairs": ["The items", "The pairs", "The sets"],
    "inspect": ["The datasets", "Steps to count", "The report"],
    "train": [
        *("The run", "The model", "The pairs", "Their order", "Optimization", "Checkpoints"),
        *("Logs", "On Ray (--launcher ray)"),
    ],
    "evaluate": ["Parameters"],
    "predict": ["Parameters"],
}
OPTIONS = {
    "pairs": PairsConfig,
    "inspect": InspectConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
}
CODE = """
import sys
from contextlib import suppress
from sharedlayers_dist.cli import main
for command in sys.argv[1:]:
    print("=" * 8, command)
    with suppress(SystemExit):
        main([command, "--help"])
loaded = {"tensorflow", "keras", "horovod", "ray", "matplotlib", "sklearn"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.fixture(scope="module")
def helps():
    """The help of each command, from one process, which must not load what commands need."""
    shown = subprocess.run(
        [sys.executable, "-c", CODE, *SUBJECTS],
        capture_output=True,
        text=True,
        env=WIDE,
        timeout=60,
    )
    assert shown.returncode == 0, shown.stderr
    parts = shown.stdout.split("=" * 8 + " ")[1:]
    return dict(zip(SUBJECTS, parts, strict=True))


@pytest.mark.parametrize("command", SUBJECTS)
def test_options_are_grouped_by_subject(helps, command):
    panels = [line.split("─")[1].strip() for line in helps[command].splitlines() if "╭" in line]
    assert panels == [*SUBJECTS[command], OF_FILE]


@pytest.mark.parametrize("command", OPTIONS)
def test_each_option_shows_what_it_takes_and_what_it_takes_by_default(helps, command):
    lines = helps[command].splitlines()
    hints = get_type_hints(OPTIONS[command], include_extras=True)
    for field in fields(OPTIONS[command]):
        name = f"--{field.name.replace('_', '-')}"
        (line,) = (line for line in lines if name in line.strip("│* ").split()[:2])
        hint = hints[field.name]
        hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if field.default is MISSING:
            assert "[required]" in line
        elif field.default is not None:
            shown = '""' if field.default == "" else field.default
            assert f"[default: {shown}]" in line
        if get_origin(hint) is Literal:
            assert f"[choices: {', '.join(get_args(hint))}]" in line


def test_all_commands_are_listed():
    listed = subprocess.run(
        [sys.executable, "-m", "sharedlayers_dist"],
        capture_output=True,
        text=True,
        env=WIDE,
        timeout=60,
    )
    assert listed.returncode == 0
    for command in SUBJECTS:
        assert f"│ {command} " in listed.stdout
    assert "--config FILE" in listed.stdout
