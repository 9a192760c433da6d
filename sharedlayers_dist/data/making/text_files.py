"""Rows of (text, group) from CSV and JSON lines files, with every error placed in its line."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sharedlayers_dist.data.damage import NotedFile
from sharedlayers_dist.data.files import check_column, suggest_column
from sharedlayers_dist.data.making.bad_rows import BadRows
from sharedlayers_dist.errors import UserError

CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Arrow's names of the compressions, by the endings of files' names."""
_MAX_FIELD = 1 << 24
"""Characters that a CSV field may have; more means that a quote was never closed."""
_BYTES_AHEAD = 1 << 20
"""Of the file as it is stored."""
_BYTES_AT_ONCE = 1 << 16
"""Of its text."""
_SIGNATURES = {
    b"\xff\xfe": "UTF-16. Convert it: iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "UTF-16. Convert it: iconv -f UTF-16 -t UTF-8",
    b"PAR1": "a Parquet file. Name it *.parquet",
    b"ARROW1": "an Arrow file. Write it as Parquet",
    b"PK\x03\x04": "a zip archive or a spreadsheet. Take the file out, or save the table as CSV",
    b"\x1f\x8b": "a file compressed by gzip. Name it *.gz",
    b"BZh": "a file compressed by bzip2. Name it *.bz2",
    b"\x28\xb5\x2f\xfd": "a file compressed by Zstandard. Name it *.zst",
    b"\x04\x22\x4d\x18": "a file compressed by LZ4. Name it *.lz4",
    b"<!DOCTYPE": "a web page. Download the file itself",
    b"<html": "a web page. Download the file itself",
}
"""First bytes of what is often taken for a text file, and what to do with it."""
_SEPARATOR_NAMES = {
    ",": "commas: name it *.csv",
    "\t": "tabs: name it *.tsv",
    ";": "semicolons: save it with commas",
    "|": "bars: save it with commas",
}


def iter_lines(bad_rows: BadRows) -> Iterator[str]:
    """The lines of a text file with their ends, also of a compressed one.

    It is read as UTF-8, with or without a byte order mark. Bytes that are not UTF-8 become
    surrogates, so that they spoil their own row alone.

    Raises:
        UserError: for a file that cannot be read to its end, unless that is skipped, and for one
            that is no UTF-8 text by its first bytes.
        StorageError: where the storage fails.
    """
    number = 0
    with NotedFile(bad_rows.filesystem, bad_rows.path, buffer_size=_BYTES_AHEAD) as source:
        try:
            # What is read at once is lost at once where a compressed file breaks off.
            with io.BufferedReader(_decompress(source, bad_rows.path), _BYTES_AT_ONCE) as buffer:
                _check_signature(bad_rows.path, buffer.peek())
                text = io.TextIOWrapper(buffer, "utf-8-sig", errors="surrogateescape", newline="")
                for line in text:
                    number += 1
                    yield line
        except (pa.ArrowException, OSError, EOFError) as error:
            bad_rows.reject_part(error, source, f"after line {number:,}")


def _decompress(source: NotedFile, path: str) -> pa.NativeFile:
    """The contents of a file that is compressed if its name says so."""
    stream = pa.PythonFile(source, mode="r")
    codec = CODECS.get(f".{path.lower().rpartition('.')[2]}")
    return stream if codec is None else pa.CompressedInputStream(stream, codec)


def _check_signature(path: str, start: bytes) -> None:
    found = [what for signature, what in _SIGNATURES.items() if start.startswith(signature)]
    if not found and start.count(0) > len(start) // 5:
        found = ["UTF-16, or of no text. Convert it: iconv -f UTF-16LE -t UTF-8"]
    if found:
        raise UserError(f"{path} must be UTF-8 text, and its first bytes are those of {found[0]}.")


def iter_csv(
    columns: tuple[str, str], bad_rows: BadRows, *, separator: str
) -> Iterator[tuple[str, str]]:
    """Gives the values of two columns of a CSV file with a header line.

    Raises:
        UserError: for a missing column, an unreadable file, or a bad row that is not skipped.
    """
    csv.field_size_limit(_MAX_FIELD)
    lines = _RecordLines(iter_lines(bad_rows))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    header = _read_header(reader, bad_rows, columns, separator)
    if not header:
        return
    first, second = (header.index(column) for column in columns)
    number = 0
    while True:
        lines.begin_record()
        line = lines.number + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            number += 1
            lines.go_back_to_second()
            reason = f"not CSV ({error}); is a quote never closed, or not doubled?"
            bad_rows.reject(reason, row=number, line=line)
            continue
        if row is None:
            return
        if not row:
            continue  # An empty line.
        number += 1
        if len(row) != len(header):
            reason = f"{len(row)} fields where the header has {len(header)}"
        else:
            reason = _reason_against((row[first], row[second]), columns)
        if reason:
            bad_rows.reject(reason, row=number, line=line)
        else:
            yield row[first], row[second]


class _RecordLines:
    """Lines for a CSV reader, which can go back in a record that is none.

    A quote that is never closed takes all lines up to the next quote, however far that is. They are
    read again then, without the line that it stands in.
    """

    def __init__(self, lines: Iterator[str]):
        self._lines = lines
        self._again: deque[str] = deque()
        self._record: list[str] = []
        self.number = 0
        """Of the last line that was read, from 1."""

    def __iter__(self) -> _RecordLines:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._record.append(line)
        self.number += 1
        return line

    def begin_record(self) -> None:
        """Says that the lines up to here are done with."""
        self._record.clear()

    def go_back_to_second(self) -> None:
        """Makes the second line of the current record the next one."""
        self._again.extendleft(reversed(self._record[1:]))
        self.number -= len(self._record) - 1


def _read_header(
    reader: Any, bad_rows: BadRows, columns: tuple[str, str], separator: str
) -> list[str]:
    """The names of the columns, the wanted ones once each; none if the file broke off before."""
    path = bad_rows.path
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise UserError(f"{path}, line 1: the header is not CSV ({error}). Correct it.") from error
    if not header and bad_rows.count:
        return header
    if not _is_unicode("".join(header)):
        raise UserError(f"{path} must be UTF-8, and its header is not. Convert the file.")
    if len(header) == 1:
        for other, remedy in _SEPARATOR_NAMES.items():
            if other != separator and other in header[0] and columns[0] != header[0]:
                raise UserError(
                    f"{path} has one column by its name, and seems to be separated by {remedy}. "
                    f"Received: header={header[0]!r}."
                )
    for column in columns:
        check_column(path, column, header, source=" by its first line")
    return header


def iter_json_lines(columns: tuple[str, str], bad_rows: BadRows) -> Iterator[tuple[str, str]]:
    """Gives the values of two keys of a file with one JSON object a line.

    Raises:
        UserError: for an unreadable file, or a bad row that is not skipped.
    """
    filled = (line for line in iter_lines(bad_rows) if line.strip())
    for number, line in enumerate(filled, start=1):
        if number == 1:
            _check_first_line(bad_rows.path, line)
        try:
            row = json.loads(line, object_pairs_hook=_to_object)
        except (ValueError, RecursionError) as error:
            bad_rows.reject(f"not JSON ({error})", row=number)
            continue
        if not isinstance(row, dict):
            bad_rows.reject("not a JSON object", row=number)
            continue
        missing = [column for column in columns if column not in row]
        if missing:
            names = ", ".join(map(repr, row)) or "none"
            hint = suggest_column(bad_rows.path, missing[0], list(row))
            reason = f"no column {missing[0]!r}. Its columns: {names}.{hint}"
            bad_rows.reject(reason, row=number)
            continue
        text, group = (row[column] for column in columns)
        if isinstance(group, int) and not isinstance(group, bool):
            group = str(group)
        reason = _reason_against((text, group), columns)
        if reason:
            bad_rows.reject(reason, row=number)
        else:
            yield text, group


def _check_first_line(path: str, line: str) -> None:
    """Refuses what is JSON, but not by lines."""
    start = line.strip()
    for is_so, what, remedy in (
        (start.startswith("["), "an array", "jq -c '.[]'"),
        (start == "{", "an object of several lines", "jq -c ."),
    ):
        if is_so:
            raise UserError(
                f"{path} must hold one JSON object a line, and begins with {what}. "
                f"Write it by lines: {remedy} IN.json > OUT.jsonl."
            )


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys are there once each."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"several keys {max(names, key=names.count)!r}")
    return found


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
