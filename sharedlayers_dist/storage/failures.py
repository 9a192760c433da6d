"""What storage fails with: refusals, which are the user's, and failures, which may pass."""

from __future__ import annotations

import errno
import re

from sharedlayers_dist.errors import UserError, one_line
from sharedlayers_dist.storage.uri import hide_secrets

_REFUSALS = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.EDQUOT,
        errno.EFBIG,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EPERM,
        errno.EROFS,
    }
)
_REFUSALS_OF_S3 = re.compile(
    r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|NO_SUCH_BUCKET"
    r"|UNKNOWN \(HTTP status 40[134]\))"
)
"""pyarrow's words: its errors of S3 have no number, but for what is not there."""


class StorageError(OSError):
    """Storage failed in a way that may pass; the text says what could not be done, and why."""


def is_refusal(error: BaseException) -> bool:
    """Whether storage says that nothing is there, that it may not be used, or that it is full.

    Anything else may pass, and is no fault of the user: a connection that is reset, a time-out, a
    server's own error (5xx), EIO.

    Example:
        >>> is_refusal(PermissionError(13, "Permission denied")), is_refusal(OSError(5, "EIO"))
        (True, False)
    """
    if not isinstance(error, OSError):
        return False
    return error.errno in _REFUSALS or _REFUSALS_OF_S3.search(str(error)) is not None


def storage_error(error: BaseException, problem: str) -> UserError | StorageError:
    """What to raise where storage failed: a StorageError for what may pass, else a UserError.

    Args:
        error: What storage failed with.
        problem: What could not be done, and with what.

    Example:
        >>> storage_error(OSError(5, "Input/output error"), "The folder /data cannot be listed")
        StorageError('The folder /data cannot be listed: [Errno 5] Input/output error')
    """
    text = f"{problem}: {hide_secrets(one_line(error))}"
    if isinstance(error, OSError) and not is_refusal(error):
        return StorageError(text)
    return UserError(text)
