"""Joining a Ray cluster, or starting one of this machine alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import ray
from ray._private import ray_constants
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError

from sharedlayers_dist.errors import UserError

_CONNECT_SECONDS = 10


@contextmanager
def join_cluster(address: str) -> Iterator[None]:
    """Joins a cluster, or starts one of this machine alone; leaves a connection as it was.

    Without an address, here and in RAY_ADDRESS, it joins what `ray start` has started here, as
    `ray.init()` does.

    Raises:
        UserError: when there is no cluster at the address, or it does not let this user in.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdigit():  # Ray itself would try for minutes.
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        is_alone = canonicalize_bootstrap_address(address or None) is None
        with _on_loopback() if is_alone else nullcontext():
            # What a worker prints stays in Ray's logs; the driver shows what rank zero tells it.
            ray.init(
                address="local" if is_alone else address or None,
                logging_level="ERROR",
                log_to_driver=False,
            )
    except (OSError, AuthenticationError) as error:
        raise UserError(
            f"No Ray cluster could be joined ({error}). Received: address={address!r}. Name one "
            "that runs; if it asks for a token, that must be in ~/.ray/auth_token, and "
            "RAY_AUTH_MODE=token in the environment. With --address local the run has a cluster of "
            "this machine alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


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
