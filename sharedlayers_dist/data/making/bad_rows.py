"""What happens to rows of item files that cannot be used: they stop the reading, or are counted."""

from __future__ import annotations

import warnings
from array import array

from pyarrow import fs

from sharedlayers_dist.data.damage import NotedFile, reason_of_damage
from sharedlayers_dist.errors import UserError


class BadRows:
    """Counts the rows of one file that cannot be used, or stops at the first of them.

    Args:
        filesystem: where the file is.
        path: its path there.
        skip: whether to count rather than to stop.
    """

    def __init__(self, filesystem: fs.FileSystem, path: str, *, skip: bool):
        self.filesystem = filesystem
        self.path = path
        self.count = 0
        self.rows = array("q")
        """Numbers of the single rows among them."""
        self._skip = skip

    def reject(self, reason: str, *, row: int, line: int | None = None) -> None:
        """Counts one row; rows are counted from 1, without a header.

        Raises:
            UserError: unless bad rows are skipped; names the file and the row.
        """
        if not self._skip:
            where = f"row {row}" if line is None else f"row {row} (line {line})"
            raise UserError(
                f"{self.path}, {where}: {reason.rstrip('.')}. Correct the row, or leave such rows "
                "out with --on-bad-row skip."
            )
        self.count += 1
        self.rows.append(row)

    def reject_part(
        self, error: Exception, file: NotedFile, place: str, num_rows: int | None = None
    ) -> None:
        """Counts a part of the file that is damaged, as one row where nobody knows its rows.

        Raises:
            UserError: unless bad rows are skipped, and for a file that is gone or may not be read;
                names the file and the place.
            StorageError: where the storage fails; names the same.
        """
        where = f"{self.path}, {place}"
        reason = reason_of_damage(error, file, where)
        if not self._skip:
            raise UserError(
                f"{where}: it cannot be read: {reason}. Is the file complete? Write it anew, or "
                "leave out what is damaged with --on-bad-row skip."
            ) from error
        self.count += 1 if num_rows is None else num_rows
        lost = "the rest of the file, which counts as one row," if num_rows is None else "it"
        warnings.warn(f"{where}: {lost} is left out: {reason}.", stacklevel=2)
