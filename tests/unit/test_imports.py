"""The direction of imports that docs/architecture.md states, held by walking every import."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "sharedlayers_dist"
MAY_IMPORT = {
    "world": set(),
    "quiet": set(),
    "config": set(),
    "models": {"config", "world"},
    "data": {"config", "world"},
    "dist": {"config", "world"},
    "train": {"config", "world", "models", "data", "dist"},
    "evaluate": {"config", "world", "models", "data", "dist", "train"},
    "ray": {"config", "world", "quiet", "models", "data", "dist", "train", "evaluate"},
    "doctor": {"dist"},
    "cli": {"config", "quiet", "doctor", "models", "data", "train", "evaluate", "ray"},
    "__main__": {"cli"},
    "__init__": {"config", "world", "models", "data", "dist", "train", "evaluate", "ray"},
}
HOME_OF_LIBRARY = {
    "horovod": {"dist"},
    "ray": {"ray"},
    "pyarrow": {"data", "train", "evaluate"},
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
        "import sys, sharedlayers_dist, sharedlayers_dist.cli, sharedlayers_dist.data.plan\n"
        "from sharedlayers_dist import TrainConfig, models, train\n"
        "models.names()\n"
        "assert not {'tensorflow', 'keras', 'horovod', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_train_is_called_like_a_function_and_imported_like_a_package():
    import sharedlayers_dist
    import sharedlayers_dist.train.run_folder

    assert callable(sharedlayers_dist.train)
    assert sharedlayers_dist.train.RunFolder is sharedlayers_dist.train.run_folder.RunFolder
    assert pickle.loads(pickle.dumps(sharedlayers_dist.train)) is sharedlayers_dist.train


def test_a_clone_beside_the_users_script_does_not_hide_the_package(tmp_path):
    (tmp_path / "sharedlayers_dist").symlink_to(PACKAGE.parent)
    script = tmp_path / "script.py"
    script.write_text("import sharedlayers_dist as sd\nsd.TrainConfig\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, script], check=True, timeout=60, env=environment)
