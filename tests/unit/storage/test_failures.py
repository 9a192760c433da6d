"""Which failures of storage are the user's."""

import errno
import os

import pytest

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.failures import StorageError, storage_error


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOSPC])
def test_a_refusal_is_the_users(number):
    error = storage_error(OSError(number, os.strerror(number)), "The file x cannot be read")
    assert isinstance(error, UserError)
    assert str(error).startswith("The file x cannot be read: ")


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ESTALE]
)
def test_what_may_pass_is_not_the_users(number):
    error = storage_error(OSError(number, os.strerror(number)), "The file x cannot be read")
    assert isinstance(error, StorageError)
    assert not isinstance(error, UserError)


def test_secrets_are_hidden():
    error = storage_error(OSError("s3://key:secret@bucket/x is gone"), "It cannot be read")
    assert "secret" not in str(error)
