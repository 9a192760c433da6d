"""Rows of (text, group) from CSV and JSON lines files, with every error placed in its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pyarrow import fs

from sharedlayers_dist.errors import UserError

_MAX_FIELD = 1 << 24
"""Characters that a CSV field may have; more means that a quote was never closed."""


class BadRows:
    """Counts the rows of one file that cannot be used, or stops at the first of them."""

    def __init__(self, path: str, *, skip: bool):
        self.path = path
        self.count = 0
        self._skip = skip

    def reject(self, reason: str, *, row: int, line: int | None = None) -> None:
        """Counts one row; rows are counted from 1, without a header.

        Raises:
            UserError: unless bad rows are skipped; names the file and the row.
        """
        if not self._skip:
            where = f"row {row}" if line is None else f"row {row} (line {line})"
            raise UserError(
                f"{self.path}, {where}: {reason}. Correct the row, or leave such rows out with "
                "--on-bad-row skip."
            )
        self.count += 1


class TextFile(NamedTuple):
    """A text file, compressed or not, on a filesystem."""

    filesystem: fs.FileSystem
    path: str

    def open(self) -> io.TextIOWrapper:
        """Opens the file as UTF-8, with or without a byte order mark; line ends stay.

        Bytes that are not UTF-8 become surrogates, so that they spoil their own row alone.
        """
        stream = self.filesystem.open_input_stream(self.path, compression="detect")
        return io.TextIOWrapper(
            io.BufferedReader(stream, 1 << 20), "utf-8-sig", errors="surrogateescape", newline=""
        )


def check_column(path: str, column: str, columns: Sequence[str]) -> None:
    """Raises UserError unless just one of a file's `columns` has the name `column`."""
    if columns.count(column) != 1:
        problem = "several columns" if column in columns else "no column"
        raise UserError(
            f"{path} has {problem} {column!r}. Its columns: {', '.join(columns) or 'none'}."
        )


def iter_csv(
    file: TextFile, columns: tuple[str, str], bad_rows: BadRows, *, separator: str
) -> Iterator[tuple[str, str]]:
    """Gives the values of two columns of a CSV file with a header line.

    Raises:
        UserError: for a missing column, an unreadable file, or a bad row that is not skipped.
    """
    with file.open() as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        csv.field_size_limit(_MAX_FIELD)
        header = _next_row(reader, file.path) or []
        if not _is_unicode("".join(header)):
            raise UserError(f"{file.path} must be UTF-8, and its header is not. Convert the file.")
        for column in columns:
            check_column(file.path, column, header)
        first, second = (header.index(column) for column in columns)
        number = 0
        while True:
            line = reader.line_num + 1
            row = _next_row(reader, file.path)
            if row is None:
                return
            if not row:
                continue  # An empty line.
            number += 1
            if len(row) != len(header):
                reason = f"{len(row)} fields where the header has {len(header)}"
                bad_rows.reject(reason, row=number, line=line)
                continue
            pair = row[first], row[second]
            reason = _reason_against(pair, columns)
            if reason:
                bad_rows.reject(reason, row=number, line=line)
            else:
                yield pair


def iter_json_lines(
    file: TextFile, columns: tuple[str, str], bad_rows: BadRows
) -> Iterator[tuple[str, str]]:
    """Gives the values of two keys of a file with one JSON object a line.

    Raises:
        UserError: for an unreadable file, or a bad row that is not skipped.
    """
    with file.open() as lines:
        number = 0
        for line in lines:
            if not line.strip():
                continue
            number += 1
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                bad_rows.reject(f"not JSON ({error})", row=number)
                continue
            if not isinstance(row, dict):
                bad_rows.reject("not a JSON object", row=number)
                continue
            missing = [column for column in columns if column not in row]
            if missing:
                bad_rows.reject(f"no column {missing[0]!r} among {', '.join(row)}", row=number)
                continue
            text, group = (row[column] for column in columns)
            if isinstance(group, int) and not isinstance(group, bool):
                group = str(group)
            reason = _reason_against((text, group), columns)
            if reason:
                bad_rows.reject(reason, row=number)
            else:
                yield text, group


def _reason_against(values: tuple[Any, Any], columns: tuple[str, str]) -> str:
    """What is wrong with a row's values; empty where nothing is."""
    for value, column in zip(values, columns, strict=True):
        if value is None or (isinstance(value, str) and not value.strip()):
            return f"column {column!r} is null or empty"
        if not isinstance(value, str):
            return f"column {column!r} holds {type(value).__name__}, not text"
        if not _is_unicode(value):
            return f"column {column!r} is not UTF-8, or holds half of a surrogate pair"
    return ""


def _is_unicode(text: str) -> bool:
    """Whether there are no surrogates in the text, which stand for bytes that are not UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def _next_row(reader: Any, path: str) -> list[str] | None:
    """The next CSV row, None at the end of the file."""
    try:
        return next(reader, None)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error}).") from error
