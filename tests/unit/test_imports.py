"""The direction of imports that docs/architecture.md states, held by walking every import."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sharedlayers_dist"
BASE = {"config", "errors", "storage", "world"}
MAY_IMPORT = {
    "errors": set(),
    "world": {"errors"},
    "keras_settings": {"errors"},
    "quiet": {"keras_settings"},
    "options": {"errors", "storage"},
    "config": {"errors", "options"},
    "config_file": {"config", "errors", "options", "storage"},
    "completion": {"errors", "world"},
    "storage": {"errors"},
    "text_imports": {"errors"},
    "user_code": {"errors", "text_imports"},
    "models": BASE | {"keras_settings"},
    "losses": {"errors"},  # So that anyone can use them, without the rest of the package.
    "data": BASE,
    "dist": BASE,
    "training": BASE
    | {"keras_settings", "text_imports", "user_code", "models", "losses", "data", "dist"},
    "evaluate": BASE | {"user_code", "models", "data", "dist", "training"},
    "ray": BASE | {"quiet", "user_code", "models", "data", "dist", "training", "evaluate"},
    "doctor": {"dist", "errors"},
    "cli": BASE
    | {"completion", "options", "config_file", "quiet", "doctor"}
    | {"models", "data", "training", "evaluate", "ray"},
    "__main__": {"cli"},
    "__init__": {"config", "world"}
    | {"models", "losses", "data", "dist", "training", "evaluate", "ray"},
}
# The rooms inside a part, and which of them each may import; "" are the modules beside the rooms.
ROOMS_MAY_IMPORT: dict[str, dict[str, set[str]]] = {
    "models": {"": {"recurrent"}, "encoders": set(), "recurrent": set()},
    "data": {
        "items": set(),
        "": {"items"},
        "order": set(),
        "reading": {"", "items", "order"},
        "making": {"", "items"},
        "inspection": {"", "items", "order", "reading"},
    },
    "dist": {"": set(), "gradients": {""}, "callbacks": {"", "gradients"}},
    "training": {"": {"checkpoints"}, "checkpoints": set()},
    "ray": {"": {"reading"}, "reading": set()},
}
# Single modules that one room may import from another although the room as a whole may not.
MODULES_MAY_IMPORT = {
    # A layer that averages over the ranks by the weights of the step's samples.
    ("dist", "batch_norm"): {"gradients.keras_hooks", "gradients.sample_counts"},
    ("models", "recurrent"): {"graph"},  # What an encoder begins with.
    # What a checkpoint holds of a run, and when one is asked for.
    ("training", "checkpoints"): {"finite", "position", "preemption", "strict_json"},
    ("ray", "reading"): {"same_sources"},  # That an actor runs the code of its driver.
}
HOME_OF_LIBRARY = {
    "horovod": {"dist"},
    "ray": {"ray"},
    "pyarrow": {"data", "evaluate", "storage", "training"},
}


def imports_of(path: Path) -> set[str]:
    """The dotted names that a module or a stub imports, nested imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert path.suffix == ".pyi", f"{path} has a relative import."
            here = ".".join(path.parent.relative_to(PACKAGE.parent).parts)
            home = f"{here}.{node.module}" if node.module else here
            found |= {f"{home}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(path.suffix)


MODULES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    for name in imports_of(path):
        first, *rest = name.split(".")
        if first == "sharedlayers_dist" and rest and rest[0] in MAY_IMPORT:
            assert rest[0] == part or rest[0] in MAY_IMPORT[part], f"{path} imports {name}"
        if first in HOME_OF_LIBRARY:
            assert part in HOME_OF_LIBRARY[first], f"{path} imports {name}"


def room_of(part: str, rest: list[str]) -> str:
    """The room of a part that a module lies in, given the dotted name below the part."""
    return rest[0] if rest and rest[0] in ROOMS_MAY_IMPORT[part] else ""


INNER = [
    path
    for path in MODULES
    if part_of(path) in ROOMS_MAY_IMPORT
    and path != PACKAGE / part_of(path) / f"__init__{path.suffix}"
]


@pytest.mark.parametrize("path", INNER, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_between_the_rooms_of_a_part_point_one_way(path):
    part, *own = path.relative_to(PACKAGE).with_suffix("").parts
    room = room_of(part, own)
    for name in imports_of(path):
        first, *rest = name.split(".")
        if first != "sharedlayers_dist" or rest[:1] != [part] or len(rest) < 3:
            continue
        allowed = MODULES_MAY_IMPORT.get((part, own[0]), set())
        other = room_of(part, rest[1:])
        below = other == room or other in ROOMS_MAY_IMPORT[part][room]
        known = any(".".join(rest[1:]).startswith(f"{module}.") for module in allowed)
        assert below or known, f"{path} imports {name}"


def test_every_room_is_in_the_table():
    for part, rooms in ROOMS_MAY_IMPORT.items():
        folders = {path.parent.name for path in (PACKAGE / part).glob("*/__init__.py")}
        assert folders | {""} == set(rooms)
    with_rooms = {path.parent.parent.name for path in PACKAGE.glob("*/*/__init__.py")}
    assert with_rooms == set(ROOMS_MAY_IMPORT)


def test_tensorflows_data_pipeline_stands_in_one_module_of_data():
    users = [
        path.name for path in (PACKAGE / "data").rglob("*.py") if "tensorflow" in path.read_text()
    ]
    readers = [name for name in users if name != "__init__.py"]
    assert len(readers) == 1


def test_importing_the_package_loads_no_tensorflow():
    code = (
        "import sys, sharedlayers_dist, sharedlayers_dist.cli\n"
        "import sharedlayers_dist.data.order.epoch_plan\n"
        "from sharedlayers_dist import TrainConfig, models, train\n"
        "models.names()\n"
        "assert not {'tensorflow', 'keras', 'horovod', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_train_is_a_function_that_can_be_sent_to_other_processes():
    import sharedlayers_dist

    assert pickle.loads(pickle.dumps(sharedlayers_dist.train)) is sharedlayers_dist.train


def test_a_clone_beside_the_users_script_does_not_hide_the_package(tmp_path):
    (tmp_path / "sharedlayers_dist").symlink_to(PACKAGE.parent)
    script = tmp_path / "script.py"
    script.write_text("import sharedlayers_dist as sd\nsd.TrainConfig\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, script], check=True, timeout=60, env=environment)
