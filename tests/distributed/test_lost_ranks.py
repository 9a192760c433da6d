"""A rank that is lost ends the others' waiting with an error; one that is slow does not."""

from __future__ import annotations

import pytest

from tests.distributed.launcher import run_ranks

WORKER = "tests.distributed.workers.lost_rank"
HANGS = [
    "hang",
    "hang before the first step",
    "hang before normalization",
    "hang in validation",
    "hang in a loop",
]
ENVIRONMENT = {
    "HOROVOD_STALL_CHECK_TIME_SECONDS": "5",
    "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "10",
}
"""A short limit, though longer than one rank may be behind on a machine that is busy."""


@pytest.mark.parametrize(
    "how",
    ["die", "raise", HANGS[0], *(pytest.param(how, marks=pytest.mark.slow) for how in HANGS[1:])],
)
def test_others_end_when_a_rank_is_lost(how):
    ranks = run_ranks(
        WORKER, 2, how, env=ENVIRONMENT, check=False, timeout=150, seconds_after_first_failure=5
    )
    assert ranks[0].returncode not in (0, -9), ranks[0].output
    assert ranks[1].returncode == (1 if how == "raise" else -9)
    assert ("did not come where the others wait" if how in HANGS else "Horovod") in ranks[0].output
    if how in HANGS:  # It may be a callback that has ended one rank alone.
        assert "EarlyStopping, TerminateOnNaN" in ranks[0].output
        assert "use dist.AgreedEarlyStopping" in ranks[0].output
    assert ("step 2" in ranks[1].output) == (how != "hang before the first step")


@pytest.mark.slow
def test_steps_may_take_longer_than_the_limit():
    ranks = run_ranks(WORKER, 2, "slow", env=ENVIRONMENT)
    assert all("step 3" in rank.output for rank in ranks)
