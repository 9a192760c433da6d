"""How often in a row Ray may try to start workers."""

from itertools import pairwise

import pytest
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.callback_manager import CallbackManager
from ray.train.v2._internal.execution.controller.state import (
    InitializingState,
    ReschedulingState,
    RunningState,
    SchedulingState,
)
from ray.train.v2._internal.execution.scaling_policy import ResizeDecision
from ray.train.v2.api.exceptions import ControllerError

from sharedlayers_dist.ray.failures import RayRunError, describe_failure
from sharedlayers_dist.ray.placement import EndAfterTries

BEGUN = InitializingState()
TRIED = SchedulingState(ResizeDecision(num_workers=2, resources_per_worker={"CPU": 1}))
FAILED = ReschedulingState(ControllerError(WorkerGroupStartupTimeoutError(num_workers=2)))
RUNNING = RunningState()


def go_through(callback: EndAfterTries, *states: object) -> None:
    """Calls the callback as Ray's controller does at each change of its state."""
    hooks = CallbackManager([callback])
    for previous, current in pairwise(states):
        hooks.invoke("after_controller_state_update", previous, current)


def test_tries_count_until_the_workers_run():
    failed_twice = [BEGUN, TRIED, FAILED, FAILED, TRIED, FAILED, TRIED]
    callback = EndAfterTries(2)
    go_through(callback, *failed_twice, RUNNING, *failed_twice)
    with pytest.raises(ControllerError):
        go_through(callback, TRIED, FAILED)


def test_a_run_ends_after_the_last_try_and_says_so():
    with pytest.raises(ControllerError) as caught:
        go_through(EndAfterTries(1), BEGUN, TRIED, FAILED, TRIED, FAILED)
    assert isinstance(caught.value.controller_failure, RayRunError)
    assert describe_failure(caught.value).startswith(
        "The workers could not be started 2 times in a row. Received: "
    )
    assert describe_failure(caught.value).endswith("to a cluster that is to grow.")
