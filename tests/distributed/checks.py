"""Running named checks of `workers/` on real ranks, and reading what each rank found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.distributed.launcher import run_ranks


def run_cases(
    folder: Path, size: int, names: Sequence[str], modules: Sequence[str], **env: str
) -> list[dict[str, str]]:
    """Returns each rank's findings: the traceback of every check that failed, or ""."""
    run_ranks(
        "tests.distributed.workers.cases",
        size,
        folder / "found",
        *modules,
        timeout=560,
        env={"CASES": ",".join(names)} | env,
    )
    return [json.loads((folder / f"found.{rank}.json").read_text()) for rank in range(size)]


def assert_found_nothing(ranks: list[dict[str, str]], name: str) -> None:
    """Asserts that a check found nothing on any rank."""
    for rank, found in enumerate(ranks):
        assert not found[name], f"On rank {rank}: {found[name]}"
