"""When a run leaves nodes that are to be taken away, and that Ray counts it as no failure."""

import pickle

import pytest
from ray.train import FailureConfig, PreemptionInfo, WorkerGroupError
from ray.train.v2._internal.execution.context import TrainContext
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.preemption import PreemptionContext
from ray.train.v2._internal.execution.worker_group.poll import (
    WorkerGroupPollStatus,
    WorkerStatus,
)
from ray.train.v2._internal.util import construct_user_exception_with_traceback

from sharedlayers_dist.ray.failures import NodeTakenAwayError
from sharedlayers_dist.ray.preemption import SECONDS_TO_LEAVE, is_due

NOW = 1_800_000_000.0


def notice(seconds_left: float | None) -> PreemptionInfo:
    deadline = None if seconds_left is None else int((NOW + seconds_left) * 1000)
    return PreemptionInfo(deadline_ms=deadline, preempted_node_to_ranks={"a1b2": [1]})


@pytest.mark.parametrize(
    ("info", "leaves"),
    [
        (None, False),
        (notice(None), True),
        (notice(-5), True),
        (notice(30), True),
        (notice(SECONDS_TO_LEAVE), True),
        (notice(SECONDS_TO_LEAVE + 1), False),
        (notice(3600), False),
    ],
)
def test_a_run_leaves_shortly_before_the_node_goes_or_at_once(info, leaves):
    assert is_due(info, now=NOW) is leaves


def test_ray_keeps_the_notice_where_it_is_looked_for():
    assert "preemption_context" in TrainContext.__dataclass_fields__
    assert PreemptionContext().preemption_info is None


def errors_as_ray_sees_them(*errors: Exception) -> WorkerGroupPollStatus:
    """What polling workers of Ray Train gives that have raised these errors."""
    raised = [construct_user_exception_with_traceback(error) for error in errors]
    sent = pickle.loads(pickle.dumps(raised))
    return WorkerGroupPollStatus(
        {rank: WorkerStatus(running=False, error=error) for rank, error in enumerate(sent)}
    )


@pytest.mark.parametrize(
    ("error", "decision"),
    [
        (NodeTakenAwayError("the node 10.0.0.2 is taken away"), FailureDecision.RETRY),
        (RuntimeError("the node 10.0.0.2 is taken away"), FailureDecision.RAISE),
    ],
)
def test_ray_counts_a_run_that_leaves_a_node_as_no_failure(error, decision):
    polled = errors_as_ray_sees_them(error, error)
    assert polled.has_preempted_worker() is (decision == FailureDecision.RETRY)
    assert {str(error) for error in polled.errors.values()} == {"the node 10.0.0.2 is taken away"}
    policy = DefaultFailurePolicy(FailureConfig(max_failures=0))
    for _ in range(3):
        made = policy.make_decision(WorkerGroupError("two ranks", polled.errors))
        assert made == decision
