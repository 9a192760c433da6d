"""Which checkpoints stay (a pure function of their steps and metrics)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sharedlayers_dist.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """Which checkpoints of a run stay; a checkpoint stays if any of these says so."""

    newest: int
    """How many of the newest stay; at least 1."""
    best: int = 0
    """How many of the best stay, by `monitor`."""
    monitor: str = "loss"
    """The metric that `best` goes by."""
    mode: Literal["min", "max"] = "min"
    """Whether a small or a large value of `monitor` is good."""
    every: int = 0
    """Every checkpoint at a multiple of this many steps stays for good; 0 for none."""

    @classmethod
    def from_config(cls, config: TrainConfig) -> RetentionPolicy:
        """The policy that a run's options ask for."""
        return cls(
            newest=config.keep_checkpoints,
            best=config.keep_best,
            monitor=config.monitored,
            mode=config.monitored_mode,
            every=config.keep_every,
        )


def select_obsolete(
    checkpoints: Mapping[int, Mapping[str, float]], policy: RetentionPolicy
) -> list[int]:
    """Steps of the checkpoints that need not stay.

    Args:
        checkpoints: The metrics of each finished checkpoint, by its step.
        policy: Which stay. A checkpoint whose metrics lack `monitor`, or have NaN for it, is none
            of the best.
    """
    steps = sorted(checkpoints)
    stay = set(steps[-policy.newest :])
    stay |= set(best_steps(checkpoints, policy)[: policy.best])
    if policy.every:
        stay |= {step for step in steps if step % policy.every == 0}
    return [step for step in steps if step not in stay]


def best_steps(
    checkpoints: Mapping[int, Mapping[str, float]], policy: RetentionPolicy
) -> Sequence[int]:
    """Steps of the checkpoints that have the metric, best first; of equals the earlier first."""
    sign = 1 if policy.mode == "min" else -1
    values = {step: checkpoints[step].get(policy.monitor, math.nan) for step in sorted(checkpoints)}
    with_metric = [step for step, value in values.items() if not math.isnan(value)]
    return sorted(with_metric, key=lambda step: sign * values[step])
