"""What this environment can do: versions, Horovod's build, devices, and a check over the ranks."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from sharedlayers_dist.errors import UserError

_PACKAGES = ("sharedlayers_dist", "tensorflow", "keras", "horovod", "ray", "pyarrow", "numpy")


def examine() -> tuple[list[str], bool]:
    """Looks at the environment, and adds up a number over the ranks that were started.

    Every rank of a distributed run must call it.

    Returns:
        Lines to show, and whether everything that is needed is there and works.
    """
    lines = [f"python {platform.python_version()} on {platform.platform()}"]
    lines += [f"{name} {_version(name)}" for name in _PACKAGES]
    import tensorflow as tf

    lines.append(f"GPUs seen by TensorFlow: {len(tf.config.list_physical_devices('GPU'))}")
    from sharedlayers_dist import dist

    lines.append(_describe_horovod())
    try:
        world = dist.init()
        ranks = dist.allgather_object(world.rank)
    except (RuntimeError, UserError) as error:
        return [*lines, f"collectives: {error}"], False
    good = ranks == list(range(world.size))
    if world.size > 1:
        lines.append(f"collectives over {world.size} ranks: {'work' if good else 'FAIL'}")
    else:
        lines.append("collectives: not tried; start this with horovodrun -np 2")
    return lines, good


def _describe_horovod() -> str:
    """What it was built with, or why it cannot be used; one process alone needs none."""
    from sharedlayers_dist.dist.build import describe_build

    try:
        return describe_build()
    except RuntimeError as error:
        return f"several ranks cannot train here: {error}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
