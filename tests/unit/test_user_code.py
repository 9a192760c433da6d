"""Functions of a user's own: found and read without executing them, imported from their texts."""

import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from sharedlayers_dist import text_imports
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.user_code import code_of_function, read_code


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a function, and all kinds of modules that it imports."""
    (tmp_path / "own_package").mkdir()
    for name, text in {
        "own_entry.py": (
            "import numpy as np\n"
            "from own_sibling import ONE\n"
            "from own_package.inner import ten\n"
            "def build(more=0):\n"
            "    from own_late import HUNDRED\n"
            "    return int(np.sum([ONE, ten(), HUNDRED, more]))\n"
        ),
        "own_sibling.py": "ONE = 1\n",
        "own_late.py": "HUNDRED = 100\n",
        "not_asked_for.py": "raise RuntimeError\n",
        "own_package/__init__.py": "",
        "own_package/inner.py": (
            "from . import other\nfrom .other import TEN\ndef ten(): return TEN\n"
        ),
        "own_package/other.py": "TEN = 10\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(text_imports.TextFinder, "modules", {})
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


MODULES = [
    "own_entry.py",
    "own_late.py",
    "own_package/__init__.py",
    "own_package/inner.py",
    "own_package/other.py",
    "own_sibling.py",
]


@pytest.mark.parametrize("name", ["own_entry.py:build", "own_entry:build"])
def test_the_modules_that_a_function_needs_are_found_and_not_executed(place, name):
    code = read_code(name)
    assert code.entry == "own_entry:build"
    assert [module.path for module in code.modules] == MODULES
    imported = {name.removesuffix(".py").split("/")[0] for name in MODULES} & set(sys.modules)
    assert imported == set()


def test_a_function_inside_a_package_brings_its_own_part_of_it(place):
    code = read_code("own_package.inner:ten")
    assert [module.name for module in code.modules] == [
        "own_package",
        "own_package.inner",
        "own_package.other",
    ]
    assert code.load()() == 10


def test_another_process_runs_the_texts_where_the_files_are_not(place, tmp_path_factory):
    sent = tmp_path_factory.mktemp("sent") / "code.pickle"
    sent.write_bytes(pickle.dumps(read_code("own_entry.py:build")))
    for name in MODULES:
        (place / name).unlink()
    program = (
        f"import pickle; code = pickle.load(open({str(sent)!r}, 'rb')); print(code.load()(more=5))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/"
    )
    assert output.stdout == "116\n"


def test_a_traceback_shows_the_lines(place):
    (place / "own_failing.py").write_text("def build():\n    return 1 / 0  # here\n")
    code = read_code("own_failing.py:build")
    (place / "own_failing.py").unlink()
    with pytest.raises(ZeroDivisionError) as caught:
        code.load()()
    assert "return 1 / 0  # here" in "".join(traceback.format_exception(caught.value))


def test_the_hash_is_that_of_the_text(place):
    before = read_code("own_entry.py:build").digests
    (place / "own_package/other.py").write_text("TEN = 11\n")
    after = read_code("own_entry.py:build").digests
    assert {name for name in before if before[name] != after[name]} == {"own_package.other"}


def test_a_function_of_a_library_is_left_to_the_library():
    code = read_code("keras.applications:MobileNet")
    assert code.modules == ()
    assert code.load().__name__ == "MobileNet"


def test_what_is_installed_in_another_environment_on_the_path_is_not_own(place, monkeypatch):
    packages = place / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "installed_there.py").write_text("TWO = 2\n")
    (place / "own_user.py").write_text("import installed_there\ndef build(): return 2\n")
    monkeypatch.syspath_prepend(packages)
    assert [module.path for module in read_code("own_user.py:build").modules] == ["own_user.py"]


def test_a_changed_text_takes_the_place_of_the_one_before(place):
    assert read_code("own_entry.py:build").load()() == 111
    (place / "own_sibling.py").write_text("ONE = 2\n")
    assert read_code("own_entry.py:build").load()() == 112


def test_a_module_that_the_process_has_imported_by_itself_is_not_replaced(place, monkeypatch):
    monkeypatch.syspath_prepend(str(place))
    import own_sibling  # type: ignore[import-not-found]

    assert own_sibling.ONE == 1
    assert read_code("own_entry.py:build").load()() == 111  # The same text will do.
    (place / "elsewhere").mkdir()
    (place / "elsewhere/own_sibling.py").write_text("ONE = 2\ndef build(): return ONE\n")
    with pytest.raises(UserError, match=r"own_sibling of .*, and in this process another one"):
        read_code("elsewhere/own_sibling.py:build").load()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_entry.py", "A function is named as"),
        ("own_entry.py:", "A function is named as"),
        (":build", "A function is named as"),
        ("own entry:build", "A function is named as"),
        ("nowhere.py:build", "A function's file must be there"),
        ("nowhere:build", "A function's module must be there"),
        ("own_package.nowhere:build", "A function's module must be there"),
        ("json.py:build", "imported under its name, which must be"),
        ("keras.py:build", "imported under its name, which must be"),
        ("own-entry.py:build", "imported under its name, which must be"),
        ("own_broken.py:build", "line 2: .*invalid syntax|line 2: "),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(place, name, said):
    for file in ("json.py", "keras.py", "own-entry.py"):
        (place / file).write_text("def build(): ...\n")
    (place / "own_broken.py").write_text("def build():\n    return )\n")
    with pytest.raises(UserError, match=said):
        read_code(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("other = 1\ndef f(): ...", "The module has f"),
        ("build = 1", "The module has no function"),
        ("import nothing_of_this_name", "must be one that can be imported.*nothing_of_this_name"),
    ],
)
def test_a_module_without_the_function_is_refused(place, text, said):
    (place / "own_other.py").write_text(text)
    with pytest.raises(UserError, match=said):
        read_code("own_other.py:build").load()


def test_a_function_that_is_there_has_the_code_of_its_name(place):
    build = read_code("own_entry.py:build").load()
    assert code_of_function(build) == read_code("own_entry.py:build")


def test_a_function_of_a_script_is_its_own_text(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from sharedlayers_dist.user_code import code_of_function\n"
        "def build(): return 3\n"
        "code = code_of_function(build)\n"
        "print(code.entry, code.is_importable, repr(code.modules[0].text))\n"
        "print(code_of_function(lambda: 3).is_importable)\n"
    )
    output = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, timeout=60
    )
    assert output.stdout == "__main__:build False 'def build(): return 3\\n'\nFalse\n"
    with pytest.raises(UserError, match="Only a function that can be imported"):
        code_of_function(lambda: Path()).load()
