"""Nothing tracked escapes tests, linter and type checker; where tests lie; sizes; the tree."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house_tree import split_document, tree

ROOT = Path(__file__).parents[2]
MAX_LINES_OF_FUNCTION = 60
MAX_LINES_OF_MODULE = {"sharedlayers_dist": 300, "datasets": 300, "launch": 300, "tests": 450}
LONG = "# Long because "
"""Begins the comment that gives the reason: above a function, or below a module's docstring."""
# Files of tests/unit that are about no one file.
ABOUT_ALL = {
    "test_examples.py": "the examples in all docstrings",
    "test_help.py": "the help of all commands",
    "test_house.py": "this",
    "test_imports.py": "the imports of all modules",
    "test_public_names.py": "the stubs of all packages",
    "launch/test_files.py": "the scripts and cluster files in launch/",
    "losses/test_other_losses.py": "all losses, beside those of other libraries",
    "training/test_compiled_programs.py": "all that a step compiles",
}


def run(*command: str) -> str:
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """All tracked Python files, relative to the root."""
    if not (ROOT / ".git").exists():
        pytest.skip("Which files are tracked is known in a git clone alone.")
    listed = run("git", "-c", f"safe.directory={ROOT}", "ls-files", "*.py", "*.pyi").splitlines()
    return [name for name in listed if (ROOT / name).exists()]


def test_every_test_file_is_collected(tracked):
    output = run(sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "")
    collected = {line.split("::")[0] for line in output.splitlines() if "::" in line}
    assert {name for name in tracked if Path(name).name.startswith("test_")} <= collected


def test_every_unit_test_lies_where_what_it_tests_does():
    """`a/test_b.py` is about `a/b.py` of the package or the repository, or about `a/b.md`.

    `a/b/test_b.py` is about all modules of `a/b`.
    """
    unit = ROOT / "tests/unit"
    tests = {path.relative_to(unit) for path in unit.rglob("test_*.py")}
    assert {Path(name) for name in ABOUT_ALL} <= tests
    for test in tests - {Path(name) for name in ABOUT_ALL}:
        module = test.with_name(test.name.removeprefix("test_"))
        document = module.with_name(module.stem.replace("_", "-") + ".md")
        places = [ROOT / "sharedlayers_dist" / module, ROOT / module, ROOT / document]
        if test.parent.name == module.stem:
            places.append(ROOT / "sharedlayers_dist" / test.parent)
        assert any(place.exists() for place in places), f"tests/unit/{test} is about no file."


def test_every_file_is_linted(tracked):
    output = run(sys.executable, "-m", "ruff", "check", "--show-files", ".")
    assert set(tracked) <= {str(Path(line).relative_to(ROOT)) for line in output.splitlines()}


def test_every_file_is_typed(tracked):
    """Given no path, as in `make check`, mypy reads what pyproject.toml names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert not {"exclude", "ignore_errors"} & set(settings)
    overrides = [over for over in settings["overrides"] if over.get("ignore_errors")]
    assert overrides == []
    places = tuple(place if place.endswith(".py") else f"{place}/" for place in settings["files"])
    assert [name for name in tracked if not name.startswith(places)] == []


def test_a_commit_is_checked_as_ci_checks_it():
    """The same tools with the same settings: no option that CI does not give."""
    ci = (ROOT / ".ci/run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    for tool in ("ruff check", "ruff format", "mypy"):
        assert f".venv/bin/{tool}" in ci
        assert f".venv/bin/{tool}" in makefile
        entry = re.search(rf"entry: \.venv/bin/{tool}(.*)", hooks)
        assert entry is not None
        assert entry[1] in ("", " --force-exclude")


def reason_for_module(lines: list[str], tree: ast.Module) -> int:
    """The number of the line where a module would say why it is long; it has a docstring."""
    docstring = tree.body[0]
    assert docstring.end_lineno is not None
    below = range(docstring.end_lineno + 1, len(lines) + 1)
    return next((number for number in below if lines[number - 1]), 0)


def check_lengths(text: str, max_lines: int) -> list[str]:
    """What is long without a reason in its place, and the reasons that nothing long has."""
    lines, tree = text.splitlines(), ast.parse(text)
    reasons = {number for number, line in enumerate(lines, 1) if line.lstrip().startswith(LONG)}
    problems = []
    if len(lines) > max_lines:
        place = reason_for_module(lines, tree) if ast.get_docstring(tree) else 0
        problems += [] if place in reasons else [f"1: {len(lines)} lines"]
        reasons.discard(place)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if (length := node.end_lineno - node.lineno + 1) > MAX_LINES_OF_FUNCTION:
                place = min([node, *node.decorator_list], key=lambda n: n.lineno).lineno - 1
                problems += [] if place in reasons else [f"{node.lineno}: {length} lines"]
                reasons.discard(place)
    return problems + [f"{number}: a reason, but nothing long" for number in sorted(reasons)]


@pytest.mark.parametrize("folder", MAX_LINES_OF_MODULE)
def test_what_is_long_says_why_beside_it(folder):
    problems = {
        str(path.relative_to(ROOT)): check_lengths(path.read_text(), MAX_LINES_OF_MODULE[folder])
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert {path: found for path, found in problems.items() if found} == {}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("x = 1\n" * 11, ["1: 11 lines"]),
        ("x = 1\n" * 10, []),
        ('"""A table."""\n\n# Long because it is one.\n' + "x = 1\n" * 9, []),
        ('"""A table."""\n\n# Long because it is one.\n', ["3: a reason, but nothing long"]),
        ("def f():\n" + "    x = 1\n" * 60, ["1: 61 lines", "1: 61 lines"]),
        (
            "class A:\n    # Long because so.\n    @b\n    def f():\n" + "        x\n" * 60,
            ["1: 64 lines"],
        ),
    ],
)
def test_reasons_are_read_where_they_stand(text, problems):
    assert check_lengths(text, 10) == problems


def test_the_tree_in_the_docs_is_the_packages():
    assert split_document()[1] == tree(), "`make tree` writes it anew."
