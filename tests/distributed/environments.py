"""Python environments that lack something: links to this one's packages, some left out."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def without_packages(folder: Path, *prefixes: str) -> dict[str, str]:
    """Links all installed packages but some into `folder`.

    Args:
        folder: Is made.
        *prefixes: Packages whose files begin with these are left out.

    Returns:
        Environment variables for `python -S`, which then finds these packages and no others.
    """
    folder.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        name = entry.name.removeprefix("__editable__.").removeprefix("__editable___")
        if not name.startswith(prefixes):
            (folder / entry.name).symlink_to(entry)
    return {"PYTHONPATH": str(folder)}
