"""Joining a Ray cluster, or starting one of this machine alone."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError
from ray.job_config import JobConfig

from sharedlayers_dist.errors import UserError, named_line, one_line
from sharedlayers_dist.ray.failures import RayRunError

_CONNECT_SECONDS = 10
_LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes of the path of a Unix socket, in `sockaddr_un` without the null at its end."""


@contextmanager
def join_cluster(address: str) -> Iterator[None]:
    """Joins a cluster, or starts one of this machine alone; leaves a connection as it was.

    Without an address, here and in RAY_ADDRESS, it joins what `ray start` has started here, as
    `ray.init()` does.

    Raises:
        UserError: when there is no cluster at the address, or it does not let this user in; and
            when Ray's folder for temporary files is none that a cluster can be started with.
        RayRunError: when Ray could not start a cluster for another reason.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    with _without_notes():
        if _is_to_be_started(address):
            _start_cluster()
        else:
            _join_cluster(address)
        try:
            yield
        finally:
            ray.shutdown()


def is_ray_job() -> bool:
    """Whether this process was started by `ray job submit`, in a folder that is removed later."""
    return RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ


def _is_to_be_started(address: str) -> bool:
    with _explaining_join(address):
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself would try for minutes.
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        return canonicalize_bootstrap_address(address or None) is None


def _join_cluster(address: str) -> None:
    with _explaining_join(address):
        _connect(address or None)


@contextmanager
def _explaining_join(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, AuthenticationError) as error:
        raise UserError(
            f"No Ray cluster could be joined ({one_line(error)}). Received: address={address!r}. "
            "Name one that runs; if it asks for a token, that must be in ~/.ray/auth_token, and "
            "RAY_AUTH_MODE=token in the environment. With --address local the run has a cluster of "
            "this machine alone."
        ) from error


def _start_cluster() -> None:
    _require_short_socket_paths()
    try:
        with _on_loopback():
            _connect("local")
    except OSError as error:
        raise UserError(
            "Ray could not start a cluster of this machine alone, which takes a folder for its "
            f"sockets and logs that can be made and written to ({one_line(error)}). Received: "
            f"TMPDIR={os.path.dirname(get_default_ray_temp_dir())!r}. Set TMPDIR to another "
            "folder, or name a cluster that runs with --address."
        ) from error
    except Exception as error:  # Ray raises bare exceptions when a process of its own ends.
        ray.shutdown()
        raise RayRunError(
            f"Ray could not start a cluster of this machine alone: {named_line(error)}. Its logs "
            f"are in {get_default_ray_temp_dir()}/session_latest/logs."
        ) from error


def _require_short_socket_paths() -> None:
    """Compares Ray's longest socket path with what the system takes; Ray fails halfway.

    Raises:
        UserError: for a folder for temporary files with a path that is too long.
    """
    folder = get_default_ray_temp_dir()
    session = f"session_{'YYYY-mm-dd_HH-MM-SS_ffffff'}_{os.getpid()}"
    excess = len(os.fsencode(f"{folder}/{session}/sockets/plasma_store")) - _LONGEST_SOCKET_PATH
    if excess > 0:
        parent = os.path.dirname(folder)
        raise UserError(
            "A Ray cluster of this machine alone cannot be started in so deep a folder: the paths "
            f"of its sockets may have {_LONGEST_SOCKET_PATH} bytes. Received: TMPDIR={parent!r}, "
            f"which is {excess} bytes too long. Set TMPDIR (or RAY_TMPDIR) to a folder of at most "
            f"{len(os.fsencode(parent)) - excess} bytes, such as /tmp."
        )


def _connect(address: str | None) -> None:
    """Connects as a driver.

    What a worker prints stays in Ray's logs; the driver shows what rank zero tells it.
    """
    ray.init(
        address=address,
        logging_level="ERROR",
        log_to_driver=False,
        job_config=None if is_ray_job() else JobConfig(**_search_path_options()),
    )


def _search_path_options() -> dict[str, Any]:
    """Gives workers the folders that this process looks into before Python's own, in that order.

    Those are a script's folder (the current one for `python -m`) and PYTHONPATH. Ray by itself puts
    the driver's current folder first, also where the driver does not look into it: workers would
    import other modules than their driver. It leaves that out for jobs of its remote client alone.
    """
    python = os.path.dirname(sysconfig.get_path("stdlib"))
    folders = takewhile(lambda folder: os.path.dirname(folder) != python, sys.path)
    # Each is put in front of those before it.
    return {"_client_job": True, "_py_driver_sys_path": [*map(os.path.abspath, folders)][::-1]}


@contextmanager
def _without_notes() -> Iterator[None]:
    """Keeps Ray's notes on processes that died from standard output; the driver tells of those.

    `ray.init(log_to_driver=False)` keeps back everything else, and Ray has no switch for these.
    """
    show = ray_worker.print_to_stdstream
    ray_worker.print_to_stdstream = lambda data, ignore_prefix: None
    try:
        yield
    finally:
        ray_worker.print_to_stdstream = show


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Lets a cluster that is started meanwhile listen on the loopback interface alone.

    Ray does that by itself on macOS and Windows, and has no other switch for it.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    variable, constant = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = constant
        if variable is None:
            del os.environ[name]
        else:
            os.environ[name] = variable
