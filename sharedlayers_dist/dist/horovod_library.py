"""Horovod itself: whether it is installed, and whether it fits. Nothing here imports it unasked."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from sharedlayers_dist.errors import SetupError, one_line
from sharedlayers_dist.world import Launch

_REBUILD = "Build it with `launch/setup.sh`, or as docs/keras3-horovod.md describes."


def import_horovod() -> ModuleType:
    """Imports `horovod.tensorflow`, or says what is missing.

    Returns:
        The module.

    Raises:
        SetupError: if Horovod is not installed, has no TensorFlow part, or was built for
            another TensorFlow.
    """
    import tensorflow as tf

    launch = Launch.detect()
    need = "" if launch.is_alone else f"{launch.size or 'Several'} ranks were started, but "
    built_for = _built_for(_find_horovod(need))
    if built_for not in ("", tf.__version__):
        raise SetupError(
            f"{need}Horovod was built for TensorFlow {built_for}. Received: "
            f"tensorflow.__version__={tf.__version__}. {_REBUILD}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import horovod.tensorflow as module
    except Exception as e:  # Whatever the loader of a shared library raises.
        raise SetupError(
            f"{need}Horovod's part for TensorFlow cannot be loaded: "
            f"{one_line(e).rstrip('.')}. {_REBUILD}"
        ) from e
    if not (module.gloo_built() or module.mpi_built()):
        raise SetupError(
            f"{need}Horovod was built with neither Gloo nor MPI, which its ranks need to "
            f"find each other. {_REBUILD}"
        )
    return module


@contextmanager
def explaining_import(need: str) -> Iterator[None]:
    """Says what is missing where parts of Horovod cannot be imported within the block.

    Args:
        need: What they are needed for, as the beginning of a sentence about Horovod.

    Raises:
        SetupError: if Horovod is not installed, or lacks these parts.
    """
    try:
        yield
    except ImportError as error:
        _find_horovod(need)
        raise SetupError(
            f"{need}Horovod cannot be loaded: {one_line(error)}. {_REBUILD}"
        ) from error


def _find_horovod(need: str) -> Path:
    """The folder that Horovod is installed in."""
    try:
        distribution = importlib.metadata.distribution("horovod")
    except importlib.metadata.PackageNotFoundError:
        raise SetupError(
            f"{need}Horovod is not installed in this environment. {_REBUILD}"
        ) from None
    return Path(str(distribution.locate_file("horovod")))


def _built_for(package: Path) -> str:
    """Returns the TensorFlow version that Horovod was built for, or "" if it does not say."""
    try:
        return str(json.loads((package / "metadata.json").read_text()).get("tensorflow", ""))
    except (OSError, ValueError):
        return ""
