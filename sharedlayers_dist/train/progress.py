"""What a training run tells of itself: lines of metrics.jsonl, and a progress line for a person."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from io import TextIOBase
from typing import Any, TextIO

import tensorflow as tf
from tqdm import tqdm

from sharedlayers_dist.train.storage import Folder, LocalFolder
from sharedlayers_dist.train.strict_json import without_infinities


class MetricsLog:
    """metrics.jsonl: one JSON object a line.

    Args:
        files: The run folder.
        name: The file's name in it.
        after: Lines of later steps than this are dropped: a resumed run writes them again.
    """

    def __init__(self, files: Folder, name: str, *, after: int) -> None:
        self._files = files
        self._name = name
        if name in files.names():
            there = files.read(name)
            kept = b"".join(
                line for line in there.splitlines(keepends=True) if _is_kept(line, after)
            )
            if kept != there:
                files.write(name, kept)

    def append(self, line: dict[str, Any]) -> None:
        """Writes `line` behind what is there; null for a figure that is not finite."""
        text = json.dumps(without_infinities(line), allow_nan=False)
        self._files.append(self._name, f"{text}\n".encode())

    def flush(self) -> None:
        """Returns when all lines are on storage."""
        self._files.flush(self._name)


def _is_kept(line: bytes, after: int) -> bool:
    """Whether a line is whole, and of a step up to `after`."""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= after
    except ValueError:
        return False


class TensorBoardLog:
    """The same figures as events for TensorBoard, in the folder `tensorboard` of a local run.

    Args:
        files: The run folder.

    Raises:
        ValueError: when the run folder is not on a disk of this machine.
    """

    def __init__(self, files: Folder) -> None:
        if not isinstance(files, LocalFolder):
            raise ValueError(
                "TensorBoard events are written to a local run folder only. Received: "
                f"output={str(files)!r}. Leave out --tensorboard."
            )
        self._writer = tf.summary.create_file_writer(str(files.path / "tensorboard"))

    def append(self, line: dict[str, Any]) -> None:
        """Writes the line's figures at its step; those of epochs begin with `epoch_`."""
        prefix = "epoch_" if line["event"] == "epoch" else ""
        with self._writer.as_default(step=line["step"]):
            for name, value in line.items():
                if name not in ("event", "step"):
                    tf.summary.scalar(prefix + name, value)
        self._writer.flush()


class Speed:
    """Pairs per second, and the shares of the time spent waiting, since the last restart.

    Args:
        read_waits: Seconds this rank has waited so far, by what it waited for.
        clock: Seconds that never go back; passed in so that tests need not wait.
    """

    def __init__(
        self,
        read_waits: Callable[[], Mapping[str, float]],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._read_waits = read_waits
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Begins a new interval."""
        self._began = self._clock()
        self._pairs = 0
        self._waits = self._read_waits()

    def add(self, pairs: int) -> None:
        """Counts one step's pairs over all ranks."""
        self._pairs += pairs

    def read(self) -> dict[str, float]:
        """Figures of the interval so far.

        `pairs_per_second` over all ranks; of this rank `X_wait_share` (0 to 1) for each X that is
        waited for, and `peak_memory_mb`, in units of 10^6 bytes since the process began.
        """
        seconds = max(self._clock() - self._began, 1e-9)
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        shares = {
            f"{name}_wait_share": min((waited - self._waits[name]) / seconds, 1.0)
            for name, waited in self._read_waits().items()
        }
        return {
            "pairs_per_second": self._pairs / seconds,
            **shares,
            "peak_memory_mb": kilobytes * 1024 / 1e6,
        }


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
    """The figures of a `Speed` between the loss and the metrics, which may not fit in the line."""
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
