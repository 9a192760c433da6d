"""What a folder of a run can do, wherever it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pyarrow import fs

MANIFEST = "manifest.json"
"""The last file of a published folder: without it, the folder does not count."""

Pieces = Sequence[bytes | memoryview]
"""A file's contents, end to end: large ones need not be copied into one piece."""


class Folder(Protocol):
    """A folder of a run. Names are relative, with `/` between parts.

    What is read is what some write has written as a whole. Names that begin with a dot are the
    folder's own: `names` leaves them out.
    """

    def __str__(self) -> str:
        """The path or URI, for people."""

    def read(self, name: str) -> bytes:
        """The contents of a file, with all that was flushed; FileNotFoundError without one."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a file: a reader sees the old contents or the new, never a part."""

    def append(self, name: str, content: bytes) -> None:
        """Adds to the end of a file; `flush` makes it last."""

    def flush(self, name: str) -> None:
        """Returns when what was appended to a file would outlive this machine.

        It costs what is new, not the whole file.
        """

    def close(self, name: str) -> None:
        """Flushes what was appended to a file, and leaves one file that any program can read."""

    def names(self, name: str = "") -> list[str]:
        """Names of the files and folders in a folder, sorted; none where there is no folder."""

    def publish(self, name: str, files: Mapping[str, Pieces]) -> None:
        """Writes a folder of files, of which MANIFEST is the last, in place of any before."""

    def is_being_published(self, name: str) -> bool:
        """Whether a folder is there that `publish` has begun and not finished."""

    def remove(self, name: str) -> None:
        """Removes a file, or a folder with all that is in it, if it is there."""

    def clean(self, name: str = "") -> None:
        """Removes from a folder what an interrupted write has left under a name of its own."""

    def locate(self, name: str = "") -> tuple[str, fs.FileSystem]:
        """The path of a file or folder, and the filesystem that it is on."""
