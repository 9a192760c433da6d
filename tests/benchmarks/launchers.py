"""What Ray costs beside `horovodrun`: `python -m tests.benchmarks.launchers`.

The same training on two ranks under both launchers, in turns: the seconds to the first figures, and
the seconds per step in the second half, when a cluster that was just started has come to rest. With
Ray, the pairs are read by two actors.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.distributed.pairs import write_text_pairs

ROUNDS = 3
NUM_PAIRS, BATCH_SIZE, LOG_EVERY = 12_288, 64, 4
LAUNCHERS = {
    "horovodrun": ([str(Path(sys.executable).with_name("horovodrun")), "-np", "2"], []),
    "ray": ([], ["--launcher", "ray", "--num-workers", "2"]),
}


def run(name: str, folder: Path, output: Path) -> tuple[float, float]:
    """Seconds until the first line of metrics.jsonl, and the median seconds per step of a half."""
    before, options = LAUNCHERS[name]
    command = [
        *before,
        *(sys.executable, "-m", "sharedlayers_dist", "train", "--epochs", "1"),
        *("--pairs", str(folder), "--output", str(output), "--batch-size", str(BATCH_SIZE)),
        *("--log-every", str(LOG_EVERY), *options),
    ]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = output / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        time.sleep(0.05)
    first = time.monotonic() - began
    if process.wait():
        raise RuntimeError(f"{name} ended with {process.returncode}.")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    speeds = [line["pairs_per_second"] for line in lines if line["event"] == "step"]
    return first, BATCH_SIZE / statistics.median(speeds[len(speeds) // 2 :])


def main() -> None:
    """Prints the figures of both launchers, and their ratio."""
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in LAUNCHERS}
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_text_pairs(Path(temporary) / "pairs", NUM_PAIRS)
        for number in range(ROUNDS):
            for name in LAUNCHERS:
                figures[name].append(run(name, folder, Path(temporary) / f"{name}-{number}"))
    for name, pairs in figures.items():
        first, step = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name}: first figures after {first:.1f} s, {step * 1000:.0f} ms a step")
    both = zip(figures["ray"], figures["horovodrun"], strict=True)
    ratios = [on_ray / alone for (_, on_ray), (_, alone) in both]
    print(
        f"seconds per step, ray / horovodrun: {statistics.median(ratios):.3f} "
        f"({', '.join(f'{ratio:.3f}' for ratio in ratios)})"
    )


if __name__ == "__main__":
    main()
