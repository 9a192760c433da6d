"""The folder that pairs are written to: whole or not at all, and never over something."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import StorageError, storage_error
from sharedlayers_dist.storage.uri import local_path


def check_output(output: str) -> None:
    """Refuses an output that is there already and is no empty folder.

    Raises:
        UserError: names the folder.
    """
    path = _resolve(output)
    try:
        is_taken = any(path.iterdir()) if path.is_dir() else path.exists()
    except OSError as error:
        raise storage_error(
            error, f"The output folder cannot be made. Received: output={output!r}"
        ) from error
    if is_taken:
        raise UserError(
            f"Nothing is overwritten, and there is something already. Received: output={output!r}. "
            "Give the name of a new or empty folder."
        )


@contextmanager
def new_folder(output: str) -> Iterator[Path]:
    """A folder that gets the name `output` when all went well, and is removed when not."""
    path = _resolve(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
    except OSError as error:
        raise storage_error(
            error, f"The output folder cannot be made. Received: output={output!r}"
        ) from error
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        os.replace(partial, path)  # Takes the place of nothing or of an empty folder only.
    except StorageError:
        raise  # Of the items, and says so.
    except OSError as error:
        raise storage_error(
            error, f"The output folder cannot be written. Received: output={output!r}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _resolve(output: str) -> Path:
    """The absolute path of the folder; of a link, that of the folder it leads to."""
    return Path(os.path.realpath(local_path(output, name="output")))


def _umask() -> int:
    """The mask of file rights, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
