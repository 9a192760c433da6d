"""Paths and URIs: the one way to open them, and to show them without their secrets."""

from __future__ import annotations

import os
import re

import pyarrow as pa
from pyarrow import fs

from sharedlayers_dist.errors import UserError, one_line

_MOST_OF_AN_ERROR = 300
"""Characters: some of pyarrow's errors list every place that was looked at."""
_OPTIONS_TO_SHOW = frozenset(
    {
        "allow_bucket_creation",
        "allow_bucket_deletion",
        "background_writes",
        "blob_storage_authority",
        "blob_storage_scheme",
        "check_directory_existence_before_creation",
        "default_replication",
        "dfs_storage_authority",
        "dfs_storage_scheme",
        "enable_tls",
        "endpoint_override",
        "force_virtual_addressing",
        "region",
        "replication",
        "retry_limit_seconds",
        "scheme",
        "tls_ca_dir_path",
        "tls_ca_file_path",
        "tls_verify_certificates",
        "use_mmap",
    }
)
"""Options of pyarrow's URIs that hold no secret. Any other may: a list of the secret ones would
never be complete."""
_OPTION = re.compile(r"(?<=[?&])([^=&?\s'\"]+)=([^&\s]*?)(?=['\"),.;:]*(?:[&\s]|$))")
"""A name and its value, up to the next option or the end, without a sentence's punctuation."""


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a path or URI, and the path on it: every place opens them by this.

    A path may begin with `~`, and is made absolute. A URI has one of the schemes that pyarrow
    knows: `file://`, `s3://`, `gs://`, `abfs://`, `hdfs://`. `file://` is the same filesystem as a
    path.

    Raises:
        UserError: for a URI that pyarrow does not know.
        OSError: when the filesystem cannot be reached. Neither shows a secret of the URI.

    Example:
        >>> open_filesystem("file:///data/pairs")[1]
        '/data/pairs'
    """
    if not is_uri(uri):
        return fs.LocalFileSystem(), absolute(uri)
    try:
        return fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, NotImplementedError) as error:
        # Not chained: pyarrow's error shows the whole URI.
        raise UserError(
            f"A URI must be one that pyarrow knows. Received: {_show(uri)!r} "
            f"({_reason(error, uri)})."
        ) from None
    except OSError as error:
        raise OSError(f"{_show(uri)} cannot be reached: {_reason(error, uri)}") from None


def read_file(uri: str) -> bytes:
    """The contents of one file, also of a pipe on this machine.

    Raises:
        UserError: for a URI that pyarrow does not know.
        OSError: for a file that cannot be read.
    """
    if not is_uri(uri):
        with open(absolute(uri), "rb") as file:
            return file.read()
    filesystem, path = open_filesystem(uri)
    with filesystem.open_input_stream(path) as stream:
        return bytes(stream.read())


def is_uri(path: str) -> bool:
    """Whether this is a URI and not a path on this machine."""
    return "://" in path


def is_on_disk(path: str) -> bool:
    """Whether this is a place on the disks of this machine, as a path or as a URI.

    Example:
        >>> is_on_disk("pairs"), is_on_disk("file:///data/pairs"), is_on_disk("s3://bucket/pairs")
        (True, True, False)
    """
    return not is_uri(path) or path.startswith("file://")


def absolute(path: str) -> str:
    """A local path as it is in any folder, `~` resolved; a URI and the empty path as they are.

    Example:
        >>> absolute("/data/../runs/one"), absolute("s3://bucket/runs"), absolute("")
        ('/runs/one', 's3://bucket/runs', '')
    """
    return path if is_uri(path) or not path else os.path.abspath(os.path.expanduser(path))


def local_path(path: str, *, name: str) -> str:
    """The absolute path of what is written to this machine's disks alone.

    Args:
        path: The path that a user gave; it may begin with `~`.
        name: The option that it was given for.

    Raises:
        UserError: for a URI, which would become a folder of that name.

    Example:
        >>> local_path("/tmp/scores.parquet", name="output")
        '/tmp/scores.parquet'
    """
    if is_uri(path):
        raise UserError(
            f"`{name}` must be a path on this machine. Received: {name}={hide_secrets(path)!r}."
        )
    return absolute(path)


def subfolder(uri: str, name: str) -> str:
    """The path or URI of a folder in a folder; a URI's options stay at its end.

    Example:
        >>> subfolder("s3://bucket/pairs?region=eu-west-1", "train")
        's3://bucket/pairs/train?region=eu-west-1'
    """
    base, mark, options = uri.partition("?") if is_uri(uri) else (uri, "", "")
    return f"{base.rstrip('/')}/{name}{mark}{options}"


def require_plain_name(name: object) -> str:
    """The name of a file in a folder, as another file gives it: it must not lead elsewhere.

    Raises:
        ValueError: for what is empty, hidden, or has a slash or a drive in it.

    Example:
        >>> require_plain_name("state.json")
        'state.json'
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*", name):
        raise ValueError(f"{name!r} is not the plain name of a file")
    return name


def hide_secrets(text: str) -> str:
    """A URI, or a text with URIs in it, as it may be shown and stored.

    Name and password before the host are left out, and the values of all options but those that
    are known to be harmless.

    Example:
        >>> hide_secrets("s3://key:secret@bucket/run?region=eu-west-1&session_token=abc")
        's3://***@bucket/run?region=eu-west-1&session_token=***'
    """
    # A slash in a password should have been escaped, but is no reason to show the password.
    text = re.sub(r"(\w+://)([^/@\s]*|[^/@:]*:(?!\d+/)[^@\s]*)@", r"\1***@", text)
    return re.sub(r"\w://\S+", lambda uri: _OPTION.sub(_hide_option, uri[0]), text)


def _hide_option(option: re.Match[str]) -> str:
    name, value = option[1], option[2]
    holds_login = "@" in value.replace("%40", "@") and "***@" not in value
    is_shown = name in _OPTIONS_TO_SHOW and not holds_login
    return option[0] if is_shown else f"{name}=***"


def _show(uri: str) -> str:
    """A URI without secrets, even one with spaces in it, which no URI may have."""
    return hide_secrets(re.sub(r"\s", "%20", uri))


def _reason(error: BaseException, uri: str) -> str:
    text = hide_secrets(one_line(error).replace(one_line(ValueError(uri)), _show(uri)))
    return text if len(text) <= _MOST_OF_AN_ERROR else f"{text[:_MOST_OF_AN_ERROR]}..."
