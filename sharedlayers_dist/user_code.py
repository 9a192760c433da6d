"""Functions of a user's own, by name: read as text, sent to other processes, kept with a run.

A function is named by the file or the module that it stands in. What it needs of a user's own
modules is found by following the import statements; nothing is executed for that. The texts are
plain values: one process reads them, and all ranks import the same ones, also where the files are
not.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.util
import inspect
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from sharedlayers_dist.errors import UserError, named_line
from sharedlayers_dist.text_imports import SourceModule, TextFinder

_FORMS = "path/to/file.py:function or package.module:function"


@dataclass(frozen=True, kw_only=True)
class UserCode:
    """A function of a user's own, and all modules of their own that it needs."""

    module: str
    function: str
    modules: tuple[SourceModule, ...] = ()
    """Sorted by name; none for a function of an installed library, which is imported as it is."""

    @property
    def entry(self) -> str:
        """The function's name with that of its module, e.g. `encoders:build`."""
        return f"{self.module}:{self.function}"

    @property
    def is_importable(self) -> bool:
        """Whether `load` can find the function: not in a script, nor in another function."""
        return self.module != "__main__" and "<" not in self.function

    @property
    def digests(self) -> dict[str, str]:
        """The hash of each module's text, by the module's name."""
        return {module.name: module.digest for module in self.modules}

    def install(self) -> None:
        """Lets this process import the modules from these texts.

        Raises:
            UserError: for a module that is there already with another text.
        """
        if self.module != "__main__":
            TextFinder.install(self.modules)

    def load(self) -> Callable[..., Any]:
        """Imports the function from these texts.

        Raises:
            UserError: for a function of a script, for a module that cannot be imported or is there
                with another text, and for one that lacks the function.
        """
        if not self.is_importable:
            raise UserError(
                "Only a function that can be imported is found by its name. Received: "
                f"{self.entry}. Put it at the top of a file of its own, and name {_FORMS}."
            )
        self.install()
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            raise UserError(
                f"A function's module must be one that can be imported. Received: {self.entry} "
                f"({named_line(error)}). Install what is missing, on every node of a cluster."
            ) from error
        found: Any = module
        for part in self.function.split("."):
            found = getattr(found, part, None)
        if not callable(found):
            has = [name for name, value in vars(module).items() if _is_function_of(value, module)]
            raise UserError(
                f"A function must be in its module. Received: {self.entry}. The module has "
                f"{', '.join(has) or 'no function'}."
            )
        return found


def is_code(name: str) -> bool:
    """Whether `name` is that of a function in a file or a module.

    Example:
        >>> is_code("encoders.py:build"), is_code("tweet_pair")
        (True, False)
    """
    return ":" in name


def read_code(name: str) -> UserCode:
    """Reads the function `name` and the modules that it needs, and executes none of them.

    A module is a user's own unless it is installed, a part of Python or of this package. Modules
    are found through import statements, wherever these stand; one that is imported by other means
    is not.

    Args:
        name: `path/to/file.py:function`, whose modules may lie beside the file; or
            `package.module:function`, whose modules may lie in the current folder. Both may use
            whatever else Python finds.

    Raises:
        UserError: for another form, a file or module that is not there, has the name of another
            one, or is no Python.

    Example:
        >>> _ = Path("my_encoders.py").write_text("def build(): ...")
        >>> code = read_code("my_encoders.py:build")
        >>> code.entry, [module.path for module in code.modules]
        ('my_encoders:build', ['my_encoders.py'])
    """
    place, _, function = name.rpartition(":")
    if not _is_dotted(function) or not (place.endswith(".py") or _is_dotted(place)):
        raise UserError(f"A function is named as {_FORMS}. Received: {name!r}.")
    if not place.endswith(".py"):
        found = _collect(place, [Path.cwd()])
        if place not in found and (found or not _is_installed(place)):
            raise UserError(
                f"A function's module must be there. Received: {name!r}. Name one that is "
                "installed, in the current folder or on PYTHONPATH, or a file that ends with .py."
            )
        return UserCode(module=place, function=function, modules=tuple(found.values()))
    file = Path(place).expanduser().resolve()
    if not file.is_file():
        raise UserError(f"A function's file must be there. Received: {name!r}, as {_FORMS}.")
    if not file.stem.isidentifier() or _find_own(file.stem, [file.parent]) != file:
        raise UserError(
            "A function's file is imported under its name, which must be a name in Python, and no "
            f"other module's. Received: {name!r}. Rename the file."
        )
    modules = tuple(_collect(file.stem, [file.parent]).values())
    return UserCode(module=file.stem, function=function, modules=modules)


def code_of_function(function: Callable[..., Any]) -> UserCode:
    """What `read_code` gives, for a function that is there already.

    Of one that another process cannot find by its name, the text is its own alone: it stands in a
    script or a notebook.

    Example:
        >>> code_of_function(read_code).entry
        'sharedlayers_dist.user_code:read_code'
    """
    module = getattr(function, "__module__", None) or "__main__"
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if module == "__main__":
        try:
            text = inspect.getsource(function)
        except (OSError, TypeError):  # It was typed in, or is no function.
            text = ""
        modules = [SourceModule(name=module, text=text, file="")] if text else []
        return UserCode(module=module, function=name, modules=tuple(modules))
    file = getattr(sys.modules.get(module), "__file__", None)
    folders = [Path(file).resolve().parent] if file and "." not in module else []
    return UserCode(module=module, function=name, modules=tuple(_collect(module, folders).values()))


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _is_function_of(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__


def _collect(name: str, folders: Sequence[Path]) -> dict[str, SourceModule]:
    """The module `name` and all that it imports, as far as they are own, sorted by their names.

    Args:
        name: A dotted name.
        folders: Where modules are looked for before `sys.path`.
    """
    found: dict[str, SourceModule] = {}
    wanted = [name]
    while wanted:
        for module in _read_module(wanted.pop(), folders):
            if module.name not in found:
                found[module.name] = module
                wanted += _imports_of(module)
    return dict(sorted(found.items()))


def _read_module(name: str, folders: Sequence[Path]) -> Iterator[SourceModule]:
    """The packages around an own module and then itself, as far as the files are there."""
    top, *parts = name.split(".")
    place = _find_own(top, folders)
    if place is None:
        return
    folder = place.parent if place.name == "__init__.py" else place.with_suffix("")
    for number in range(len(parts) + 1):
        inner = folder.joinpath(*parts[:number])
        file = inner / "__init__.py"
        if not file.is_file() and inner.with_suffix(".py").is_file():
            file = inner.with_suffix(".py")
        elif not inner.is_dir():
            return
        yield SourceModule(
            name=".".join([top, *parts[:number]]),
            text=file.read_text(encoding="utf-8") if file.is_file() else "",
            file=str(file),
            is_package=file.name == "__init__.py",
        )


def _find_own(top: str, folders: Sequence[Path]) -> Path | None:
    """The file of an own module or package of this name; None for one that is not own or there.

    For a package without a file of its own it is the file that would be it.
    """
    if top == "sharedlayers_dist" or _is_installed(top):
        return None
    spec = PathFinder.find_spec(top, list(map(str, folders))) or _find_spec(top)
    if spec is None:
        return None
    if spec.origin is not None and spec.origin.endswith(".py"):
        return Path(spec.origin).resolve()
    places = list(spec.submodule_search_locations or [])
    return Path(places[0], "__init__.py").resolve() if places else None


def _is_installed(name: str) -> bool:
    """Whether a module's first part is Python's, or lies where packages are installed."""
    top = name.split(".")[0]
    if top in sys.stdlib_module_names:
        return True
    homes = [Path(home).resolve() for home in _homes()]
    places = [p for p in sys.path if p and any(Path(p).resolve().is_relative_to(h) for h in homes)]
    return PathFinder.find_spec(top, places) is not None


def _homes() -> Iterator[str]:
    paths = sysconfig.get_paths()
    yield from (paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from (*site.getsitepackages(), site.getusersitepackages())
    # Those of other environments, which a .pth file or PYTHONPATH adds.
    yield from (p for p in sys.path if Path(p).name in ("site-packages", "dist-packages"))


def _find_spec(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except ValueError:  # It is loaded, by other means than an import.
        return None


def _imports_of(module: SourceModule) -> list[str]:
    """The dotted names that a module imports, and of those in it that may be modules or not."""
    try:
        tree = ast.parse(module.text)
    except SyntaxError as error:
        raise UserError(
            "A module must be written in Python. Received: "
            f"{module.file}, line {error.lineno}: {error.msg}."
        ) from error
    names: list[str] = []
    package = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            around = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*around, *([node.module] if node.module else [])])
            names += [start, *(f"{start}.{alias.name}" for alias in node.names)]
    return [name for name in names if name and not name.startswith(".")]
