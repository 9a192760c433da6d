"""What a person sees of a training run: a progress line."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from io import TextIOBase
from typing import TextIO

from tqdm import tqdm

_BAR = "{desc} {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""Words in place of the bar itself: a terminal of 100 columns then holds the figures."""


class Progress:
    """A line that changes on a terminal; elsewhere, as in a log, one every few seconds at most.

    Args:
        total_steps: Steps of one epoch.
        shown: Whether this process shows anything (rank zero alone does).
        stream: Where to; standard error by default.
    """

    SECONDS_BETWEEN_LINES = 5.0

    def __init__(
        self, total_steps: int, *, shown: bool, stream: TextIO | TextIOBase | None = None
    ) -> None:
        self._total = total_steps
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
                self._bar.set_postfix_str(_in_short(values), refresh=False)
            self._bar.update(done - self._bar.n)
        elif values and time.monotonic() - self._spoke >= self.SECONDS_BETWEEN_LINES:
            place = f"{self._label}, step {done}/{self._total}, {self._left(done)} left"
            self.say(f"{place}: {_as_text(values)}")

    def _left(self, done: int) -> timedelta:
        """Time until the end of the epoch, at its speed so far."""
        seconds_per_step = (time.monotonic() - self._began) / (done - self._done_before)
        return timedelta(seconds=round(seconds_per_step * (self._total - done)))

    def end(self, values: dict[str, float]) -> None:
        """Closes the epoch with its final `values`."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self.say(f"{self._label}: {_as_text(values)}")

    def say(self, text: str) -> None:
        """Prints one line, where anything is shown at all."""
        if self._shown:
            print(text, file=self._stream, flush=True)
            self._spoke = time.monotonic()


def _in_short(values: dict[str, float]) -> str:
    """A `ThroughputMeter`'s figures between the loss and the metrics, which may not fit in."""
    waits = [name for name in values if name.endswith("_wait_share")]
    metrics = [
        f"{name} {value:.4g}"
        for name, value in values.items()
        if name not in (*waits, "pairs_per_second", "peak_memory_mb")
    ]
    metrics.sort(key=lambda text: not text.startswith("loss "))
    shares = [f"{name.removesuffix('_wait_share')} {values[name]:.0%}" for name in waits]
    speed = [
        f"{values['pairs_per_second']:.0f} pairs/s",
        f"waits {' '.join(shares)}",
        f"{values['peak_memory_mb']:.0f} MB",
    ]
    return ", ".join([*metrics[:1], *speed, *metrics[1:]])


def _as_text(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
