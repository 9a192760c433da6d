"""Importing modules from texts, wherever they were read."""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from sharedlayers_dist.errors import UserError


@dataclass(frozen=True, kw_only=True)
class SourceModule:
    """One module's text."""

    name: str
    """Its dotted name."""
    text: str
    file: str
    """Where it was read, on the machine that has read it."""
    is_package: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def path(self) -> str:
        """Where it lies below a folder of sources.

        Example:
            >>> SourceModule(name="encoders.text", text="", file="").path
            'encoders/text.py'
        """
        path = PurePosixPath(*self.name.split("."))
        return str(path / "__init__.py" if self.is_package else path.with_suffix(".py"))


class TextFinder(importlib.abc.MetaPathFinder):
    """Imports modules from texts that were sent to this process; all others are left to Python."""

    modules: Mapping[str, SourceModule] = {}

    @classmethod
    def install(cls, modules: Sequence[SourceModule]) -> None:
        """Makes modules importable, in the place of those of another text under these names.

        Raises:
            UserError: where this process has imported another module of the name by itself.
        """
        wanted = {module.name: module for module in modules}
        stale = False
        for name, module in wanted.items():
            loaded = sys.modules.get(name)
            own = cls.modules.get(name)
            if loaded is None or (own is not None and own.text == module.text):
                continue
            if isinstance(getattr(loaded.__spec__, "loader", None), _TextLoader):
                stale = True
            elif not _has_text(loaded, module.text):
                raise UserError(
                    "A module must have the same text in all processes. Received: "
                    f"{name} of {module.file}, and in this process another one, of "
                    f"{getattr(loaded, '__file__', None)}. Give one of them another name."
                )
        if stale:
            for name in cls.modules:
                sys.modules.pop(name, None)
        cls.modules = {**cls.modules, **wanted}
        if not any(isinstance(finder, cls) for finder in sys.meta_path):
            sys.meta_path.insert(0, cls())

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        module = self.modules.get(fullname)
        if module is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            module.file,
            loader=_TextLoader(module),
            submodule_search_locations=[] if module.is_package else None,
        )


class _TextLoader(importlib.abc.InspectLoader):
    """Executes a module's text; tracebacks show its lines also where there is no file."""

    def __init__(self, module: SourceModule) -> None:
        self._module = module

    def get_source(self, fullname: str) -> str:
        """See `importlib.abc.InspectLoader`."""
        return self._module.text

    def is_package(self, fullname: str) -> bool:
        """See `importlib.abc.InspectLoader`."""
        return self._module.is_package

    def get_filename(self, fullname: str) -> str:
        """Where the text was read; code that looks for data beside itself finds it there."""
        return self._module.file

    def get_code(self, fullname: str) -> Any:
        """See `importlib.abc.InspectLoader`."""
        return self.source_to_code(self._module.text, self._module.file)


def _has_text(loaded: ModuleType, text: str) -> bool:
    file = getattr(loaded, "__file__", None)
    if file is None:
        return text == ""  # A package without a file of its own.
    try:
        return Path(file).read_text(encoding="utf-8") == text
    except OSError:
        return False
