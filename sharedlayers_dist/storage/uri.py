"""Paths and URIs: opening them, and showing them without their secrets."""

from __future__ import annotations

import os
import re

import pyarrow as pa
from pyarrow import fs

from sharedlayers_dist.errors import UserError, one_line


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a path or URI (`file://`, `s3://`, `gs://`, `hdfs://`), and the path on it.

    Raises:
        UserError: for a URI that pyarrow does not know.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, OSError) as e:
        raise UserError(
            f"pyarrow must know the filesystem of a dataset's URI. Received: "
            f"{hide_secrets(uri)!r}. {hide_secrets(one_line(e))}"
        ) from e
    return filesystem, path


def subfolder(uri: str, name: str) -> str:
    """The path or URI of a folder in a folder; a URI's options stay at its end."""
    base, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{options}"


def hide_secrets(uri: str) -> str:
    """A URI as it may be shown and stored: without the name and password before the host.

    A slash in a password should have been escaped, but is no reason to show the password.
    """
    return re.sub(r"(\w+://)([^/@\s]*|[^/@:]*:(?!\d+/)[^@\s]*)@", r"\1***@", uri)
