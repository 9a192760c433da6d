"""Where a run's files lie: a folder on a disk, or on any filesystem that pyarrow knows.

Both kinds promise the same (`Folder`): what is read is what some write has written as a whole. A
disk keeps it by hidden names, fsync and rename (`disk.py`); an object store shows an object only
when it is whole, and of several objects the last one written counts (`object_store.py`).
"""

from __future__ import annotations

from pathlib import Path

from pyarrow import fs

from sharedlayers_dist.storage.disk import LocalFolder
from sharedlayers_dist.storage.object_store import RemoteFolder
from sharedlayers_dist.storage.protocol import MANIFEST, Folder, Pieces
from sharedlayers_dist.storage.uri import open_filesystem

__all__ = ["MANIFEST", "Folder", "LocalFolder", "Pieces", "RemoteFolder", "open_folder"]


def open_folder(uri: str) -> Folder:
    """The folder that a path or a URI names; it need not exist.

    Raises:
        UserError: for a URI that pyarrow does not know.
        OSError: when its filesystem cannot be reached.

    Example:
        >>> str(open_folder("/data/runs/one"))
        '/data/runs/one'
    """
    filesystem, path = open_filesystem(uri)
    if isinstance(filesystem, fs.LocalFileSystem):
        return LocalFolder(Path(path))
    return RemoteFolder(uri, filesystem, path)
