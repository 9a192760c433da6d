"""A rank that is lost ends the others' waiting with an error."""

from __future__ import annotations

import pytest

from tests.distributed.launcher import run_ranks

WORKER = "tests.distributed.workers.lost_rank"


@pytest.mark.parametrize("how", ["die", "raise", "hang"])
def test_others_end_when_a_rank_is_lost(how):
    """With a short limit; the default one ends it within a minute or two."""
    env = {
        "HOROVOD_STALL_CHECK_TIME_SECONDS": "3",
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": "6",
    }
    ranks = run_ranks(
        WORKER, 2, how, env=env, check=False, timeout=150, seconds_after_first_failure=5
    )
    assert ranks[0].returncode not in (0, -9), ranks[0].output
    assert ranks[1].returncode == (1 if how == "raise" else -9)
    assert ("did not take part in a step" if how == "hang" else "Horovod") in ranks[0].output
    assert "step 2" in ranks[1].output
