"""TensorFlow's start-up notes would bury the one line that a user should read."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sharedlayers_dist.keras_settings import require_usable_settings


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow and keeps what its C++ code prints meanwhile, unless the import fails.

    Raises:
        UserError: for a setting of Keras that forbids training, before anything is imported.
    """
    require_usable_settings()
    with holding_back_notes():
        import tensorflow  # noqa: F401 - loaded for its side effect


@contextmanager
def holding_back_notes() -> Iterator[None]:
    """Keeps what is printed on standard error within, by C++ code too, unless that fails.

    The notes come before TensorFlow reads TF_CPP_MIN_LOG_LEVEL, so no setting holds them back.

    Example:
        >>> with holding_back_notes():
        ...     import keras
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            yield
        except BaseException:
            notes.seek(0)
            os.write(stderr, notes.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
