"""Which of several failures is told, and how."""

import pytest
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)

from sharedlayers_dist.dist import OtherRankFailedError
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.ray.failures import NodeTakenAwayError, describe_workers

PLACES = {0: "10.0.0.1", 1: "10.0.0.2", 2: "10.0.0.2"}


def raised(error):
    return UserExceptionWithTraceback(error, "Traceback ...")


OWN = raised(KeyError("speed"))
PLAIN = raised(UserError("one.parquet is empty"))
LOST = WorkerHealthCheckFailedError("A worker health check failed.", RuntimeError("gone"))
LEFT = raised(NodeTakenAwayError("the node 10.0.0.2 is taken away"))
HEARD = raised(OtherRankFailedError("Rank 2 failed: no", 2, False))


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ({0: HEARD, 2: OWN}, "rank 2 on the node 10.0.0.2 failed: KeyError: 'speed'"),
        ({0: PLAIN, 2: OWN}, "rank 0 on the node 10.0.0.1 failed: one.parquet is empty"),
        ({0: HEARD, 1: LOST}, "rank 1 on the node 10.0.0.2 was lost: its process was killed"),
        ({0: LOST, 1: OWN}, "rank 1 on the node 10.0.0.2 failed: KeyError"),
        ({0: HEARD}, "Rank 2 failed: no"),
        ({1: LOST, 2: LEFT}, "the node 10.0.0.2 is taken away"),
        ({7: LOST}, "rank 7 on the node unknown was lost"),
    ],
)
def test_what_failed_by_itself_is_told_before_what_only_heard_of_it(errors, told):
    assert describe_workers(errors, PLACES).startswith(told)
