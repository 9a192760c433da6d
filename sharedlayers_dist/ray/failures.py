"""What went wrong on a cluster, in one line that names rank and node."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.train import UserCallback
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from sharedlayers_dist.errors import UserError, named_line, one_line
from sharedlayers_dist.storage.uri import hide_secrets

_SECONDS_TO_TELL = 20.0
_LOST = (
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
    ray.exceptions.RayActorError,
)


class NodeTakenAwayError(ray.exceptions.RayActorError):
    """Ends the workers of a run that has saved itself, before one of their nodes is taken away.

    Ray Train takes it for the loss of a preempted node, which uses up no `max_failures`.

    Args:
        text: Which node is taken away.
    """

    def __init__(self, text: str) -> None:
        super().__init__(error_msg=text, preempted=True)


class RayRunError(RuntimeError):
    """A run on Ray that failed for good; the message names the rank and the node."""

    raised_on_all_ranks = True


class TellOfFailures(UserCallback):
    """Tells the driver of each failure of the workers; Ray Train calls it where it controls them.

    Args:
        control: The run's control actor.
    """

    def __init__(self, control: Any) -> None:
        self._control = control

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Passes on the failure; does not wait for a control actor that is gone."""
        places: Mapping[int, str] = {}
        with suppress(ray.exceptions.RayError):
            places = ray.get(self._control.places.remote(), timeout=_SECONDS_TO_TELL)
        text = describe_workers(worker_exceptions, places)
        with suppress(ray.exceptions.RayError):
            ray.get(self._control.fail.remote(text), timeout=_SECONDS_TO_TELL)


def describe_workers(errors: Mapping[int, Exception], places: Mapping[int, str]) -> str:
    """One line about the worker that failed first, as far as can be told.

    A rank that was lost or failed by itself counts before one that only misses another; none of
    this is a failure where the run has left its nodes before one is taken away.

    Args:
        errors: What each rank that failed raised.
        places: The node of each rank, as far as it is known.
    """

    def order(rank: int) -> tuple[int, int]:
        error = _unwrapped(errors[rank])
        if isinstance(error, NodeTakenAwayError):
            return (-1, rank)
        if isinstance(error, _LOST):
            return (1, rank)
        return (2 if is_about_another(error) else 0, rank)

    rank = min(errors, key=order)
    error = _unwrapped(errors[rank])
    if isinstance(error, NodeTakenAwayError):
        return str(error)
    where = f"rank {rank} on the node {places.get(rank, 'unknown')}"
    if isinstance(error, _LOST):
        return (
            f"{where} was lost: its process was killed or ran out of memory, or its node or the "
            "network is gone"
        )
    if is_about_another(error):
        return _describe(error)
    return f"{where} failed: {_describe(error)}"


def describe_failure(error: TrainingFailedError) -> str:
    """One line about a run's end, where no worker has said more."""
    if isinstance(error, WorkerGroupError):
        return describe_workers(error.worker_failures, {})
    if isinstance(error, ControllerError):
        return _describe(error.controller_failure)
    return _describe(error)


def is_about_another(error: BaseException) -> bool:
    """Whether a rank only passes on what it heard of another, as OtherRankFailedError does."""
    return hasattr(_unwrapped(error), "reporting_rank")


def _unwrapped(error: BaseException) -> BaseException:
    """The worker's own error; Ray adds the traceback as text."""
    return error._base_exc if isinstance(error, UserExceptionWithTraceback) else error


def _describe(error: BaseException) -> str:
    """The text of an error that was raised to be read; of any other its type too."""
    own = _unwrapped(error)
    is_plain = isinstance(own, UserError | RuntimeError) and str(own).strip()
    return hide_secrets(one_line(own) if is_plain else named_line(own))
