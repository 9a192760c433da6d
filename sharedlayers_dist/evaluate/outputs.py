"""Where results go: on this machine, checked before the work, and nothing written meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import storage_error
from sharedlayers_dist.storage.uri import local_path


def output_path(output: str) -> Path:
    """The path of an output.

    Raises:
        UserError: for none, which would be the current folder, a URI, or a name that is too long.
    """
    if not output:
        raise UserError("`output` must name a file or folder. Received: output=''.")
    path = Path(local_path(output, name="output"))
    try:
        path.exists()
    except OSError as error:
        raise storage_error(error, "The output must be a name that can be given") from error
    return path


def require_folder(folder: Path) -> None:
    """Makes sure that an output's folder can be made: before the work, and without making it.

    Raises:
        UserError: where it cannot be made or written to.
    """
    above = folder.absolute()
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        reason = "cannot be written to" if above.is_dir() else "is no folder"
        raise UserError(
            f"The output's folder must be one that can be made. Received: {folder}, where {above} "
            f"{reason}."
        )
