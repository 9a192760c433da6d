import math

import pytest

from sharedlayers_dist.training.checkpoints.retention import (
    RetentionPolicy,
    best_steps,
    select_obsolete,
)

NONE: dict[str, float] = {}


def losses(**steps):
    return {int(step[1:]): {"loss": loss} for step, loss in steps.items()}


@pytest.mark.parametrize(
    ("checkpoints", "policy", "stay"),
    [
        # The newest.
        ({}, {"newest": 1}, []),
        ({5: NONE}, {"newest": 1}, [5]),
        ({5: NONE, 6: NONE, 7: NONE}, {"newest": 1}, [7]),
        ({7: NONE, 5: NONE, 6: NONE}, {"newest": 2}, [6, 7]),
        ({5: NONE, 6: NONE}, {"newest": 9}, [5, 6]),
        # The best: of those in the middle of an epoch nobody knows.
        (losses(s1=3, s2=1, s3=2), {"newest": 1, "best": 1}, [2, 3]),
        (losses(s1=3, s2=1, s3=2), {"newest": 1, "best": 1, "mode": "max"}, [1, 3]),
        (losses(s1=1, s2=2, s3=3, s4=4), {"newest": 1, "best": 2}, [1, 2, 4]),
        (losses(s1=1) | {2: NONE, 3: NONE}, {"newest": 1, "best": 1}, [1, 3]),
        ({1: NONE, 2: NONE}, {"newest": 1, "best": 3}, [2]),
        (losses(s1=1, s2=2), {"newest": 1, "best": 1, "monitor": "auc"}, [2]),
        # Of equals the earlier.
        (losses(s1=2, s2=1, s3=1, s4=1), {"newest": 1, "best": 1}, [2, 4]),
        (losses(s1=2, s2=1, s3=1, s4=1), {"newest": 1, "best": 1, "mode": "max"}, [1, 4]),
        # NaN is never the best, nor does it spoil the order of others.
        (losses(s1=math.nan, s2=2, s3=math.nan, s4=1, s5=3), {"newest": 1, "best": 1}, [4, 5]),
        (losses(s1=math.nan, s2=2, s3=1), {"newest": 1, "best": 1, "mode": "max"}, [2, 3]),
        (losses(s1=math.nan, s2=math.nan), {"newest": 1, "best": 1}, [2]),
        # Every so many steps, for good.
        (dict.fromkeys(range(1, 10), NONE), {"newest": 1, "every": 4}, [4, 8, 9]),
        (losses(s1=1, s2=5, s3=5, s4=5), {"newest": 1, "best": 1, "every": 2}, [1, 2, 4]),
    ],
)
def test_which_checkpoints_stay(checkpoints, policy, stay):
    gone = select_obsolete(checkpoints, RetentionPolicy(**policy))
    assert sorted(set(checkpoints) - set(gone)) == stay
    assert set(gone) <= set(checkpoints)


def test_best_first():
    assert best_steps(losses(s1=2, s2=1, s3=2), RetentionPolicy(newest=1)) == [2, 1, 3]
