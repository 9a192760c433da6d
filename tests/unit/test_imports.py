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
    "storage": {"errors"},
    "models": BASE | {"keras_settings"},
    "data": BASE,
    "dist": BASE,
    "training": BASE | {"keras_settings", "models", "data", "dist"},
    "evaluate": BASE | {"models", "data", "dist", "training"},
    "ray": BASE | {"quiet", "models", "data", "dist", "training", "evaluate"},
    "doctor": {"dist", "errors"},
    "cli": BASE | {"quiet", "doctor", "models", "data", "training", "evaluate", "ray"},
    "__main__": {"cli"},
    "__init__": {"config", "world", "models", "data", "dist", "training", "evaluate", "ray"},
}
HOME_OF_LIBRARY = {
    "horovod": {"dist"},
    "ray": {"ray"},
    "pyarrow": {"data", "evaluate", "storage", "training"},
}


def imports_of(path: Path) -> set[str]:
    """The dotted names that a module imports, nested imports included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import."
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = part_of(path)
    for name in imports_of(path):
        first, *rest = name.split(".")
        if first == "sharedlayers_dist" and rest and rest[0] in MAY_IMPORT:
            assert rest[0] == part or rest[0] in MAY_IMPORT[part], f"{path} imports {name}"
        if first in HOME_OF_LIBRARY:
            assert part in HOME_OF_LIBRARY[first], f"{path} imports {name}"


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
