"""What a person sees of a training run: a progress line."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from io import TextIOBase
from typing import TextIO

from tqdm import tqdm

_LEAST_SHARE = 0.05
"""The share of its time that a run may wait before a person is told."""
_WAITS = {"data_wait_share": "data", "collective_wait_share": "other ranks"}

_BAR = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""Words in place of the bar itself: a terminal of 100 columns then holds the figures."""


class Progress:
    """A line that changes on a terminal; elsewhere, as in a log, one every few seconds at most.

    Args:
        total_steps: Steps of one epoch.
        monitored: The metric that says which model is best, shown beside the loss.
        shown: Whether this process shows anything (rank zero alone does).
        stream: Where to; standard error by default.
    """

    SECONDS_BETWEEN_LINES = 5.0

    def __init__(
        self,
        total_steps: int,
        *,
        monitored: str,
        shown: bool,
        stream: TextIO | TextIOBase | None = None,
    ) -> None:
        self._total = total_steps
        self._monitored = monitored
        self._shown = shown
        self._stream = sys.stderr if stream is None else stream
        self._bar: tqdm | None = None
        self._label = ""
        self._spoke = time.monotonic()

    def begin(self, label: str, done: int) -> None:
        """Starts an epoch of which `done` steps lie behind."""
        self._label = label
        self._done_before = done
        self._began = time.monotonic()
        if self._shown and self._stream.isatty():
            self._bar = tqdm(
                total=self._total, initial=done, desc=label, file=self._stream, bar_format=_BAR
            )

    def step(self, done: int, values: dict[str, float]) -> None:
        """Shows that `done` steps of the epoch lie behind, with the newest `values`."""
        if self._bar is not None:
            if values:
                self._bar.set_postfix_str(describe_figures(values, self._monitored), refresh=False)
            self._bar.update(done - self._bar.n)
        elif values and time.monotonic() - self._spoke >= self.SECONDS_BETWEEN_LINES:
            place = f"{self._label}, step {done}/{self._total}, {self._left(done)} left"
            self.say(f"{place}: {describe_figures(values, self._monitored)}")

    def _left(self, done: int) -> timedelta:
        """Time until the end of the epoch, at its speed so far."""
        seconds_per_step = (time.monotonic() - self._began) / (done - self._done_before)
        return timedelta(seconds=round(seconds_per_step * (self._total - done)))

    def end(self, values: dict[str, float]) -> None:
        """Closes the epoch with its final `values`."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self.say(f"{self._label}: {describe_figures(values, self._monitored)}")

    def say(self, text: str) -> None:
        """Prints one line, where anything is shown at all."""
        if self._shown:
            print(text, file=self._stream, flush=True)
            self._spoke = time.monotonic()


def describe_figures(values: Mapping[str, float], monitored: str) -> str:
    """The loss, the monitored metric, the speed, and any waiting that matters; for people.

    Args:
        values: The metrics, and a `ThroughputMeter`'s figures.
        monitored: The metric that says which model is best.

    Example:
        >>> figures = {"loss": 0.46691, "accuracy": 0.95, "pairs_per_second": 803.2}
        >>> describe_figures(figures | {"data_wait_share": 0.124}, "loss")
        'loss 0.4669, 803 pairs/s, waits 12% for data'
    """
    parts = [f"{name} {values[name]:.4g}" for name in ("loss", monitored) if name in values]
    parts = list(dict.fromkeys(parts))
    if "pairs_per_second" in values:
        parts.append(f"{values['pairs_per_second']:.0f} pairs/s")
    shares = [
        f"{values[name]:.0%} for {awaited}"
        for name, awaited in _WAITS.items()
        if values.get(name, 0.0) >= _LEAST_SHARE
    ]
    if shares:
        parts.append(f"waits {', '.join(shares)}")
    return ", ".join(parts)
