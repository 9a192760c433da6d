"""The public names, which are imported on first use from where their package's stub says."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = sorted((ROOT / "sharedlayers_dist").rglob("__init__.pyi"))


def names_in(stub: Path) -> set[str]:
    imports = [
        node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    return {alias.name for node in imports for alias in node.names}


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.name)
def test_each_name_of_a_stub_is_there_and_listed(stub):
    package = import_module(".".join(stub.parent.relative_to(ROOT).parts))
    assert names_in(stub) == set(package.__all__) == set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        package.no_such_name  # noqa: B018


def test_the_parts_with_many_public_names_are_those_with_a_stub():
    found = {stub.parent.name for stub in STUBS}
    assert found == {"sharedlayers_dist", "data", "dist", "losses", "models", "ray"}


def test_train_is_the_function_also_once_the_package_training_is_loaded():
    import sharedlayers_dist as sd
    from sharedlayers_dist import training

    assert sd.train is training.train
    assert callable(sd.train)


def test_the_stubs_are_installed_with_the_package(tmp_path):
    """Without them an installed package could not be imported."""
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_py", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    built = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.pyi")}
    assert built == {stub.relative_to(ROOT) for stub in STUBS}
