"""What Ray costs beside `horovodrun`: `python -m tests.benchmarks.launchers`.

The same training under both launchers, in turns: the seconds to the first figures, on a cluster
that is up, and the seconds per step in the second half. On two ranks all cores are busy with
training; one rank with one thread leaves a core to Ray's own processes. With Ray, actors read.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import ray

from tests.distributed.pairs import write_text_pairs

ROUNDS = 3
PAIRS_PER_RANK, BATCH_SIZE, LOG_EVERY = 6_144, 64, 4
SECONDS_TO_COME_TO_REST = 10
ONE_THREAD = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
CASES = {
    "two ranks on two cores": (2, {}),
    "one rank with one thread": (1, dict.fromkeys(ONE_THREAD, "1")),
}


@contextmanager
def cluster(environment: dict[str, str]) -> Iterator[str]:
    """The address of a cluster of this machine, with a dashboard, as `ray start` makes one.

    Args:
        environment: Variables for its workers, which have those of the process that started it.
    """
    with patch.dict(os.environ, environment):
        context = ray.init(address="local", log_to_driver=False, logging_level="ERROR")
        try:
            time.sleep(SECONDS_TO_COME_TO_REST)
            yield context.address_info["gcs_address"]
        finally:
            ray.shutdown()


def run(command: list[str], output: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds until the first line of metrics.jsonl, and the median seconds per step of a half."""
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    metrics = output / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        time.sleep(0.05)
    first = time.monotonic() - began
    if process.wait():
        raise RuntimeError(f"{command} ended with {process.returncode}.")
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    speeds = [line["pairs_per_second"] for line in lines if line["event"] == "step"]
    return first, BATCH_SIZE / statistics.median(speeds[len(speeds) // 2 :])


def train(launcher: str, num_ranks: int, threads: dict[str, str], folder: Path, output: Path):
    """Trains once; returns what `run` does."""
    command = [sys.executable, "-m", "sharedlayers_dist", "train", "--epochs=1"]
    command += [f"--pairs={folder}", f"--output={output}"]
    command += [f"--batch-size={BATCH_SIZE}", f"--log-every={LOG_EVERY}"]
    if launcher == "ray":
        command += ["--launcher=ray", f"--num-workers={num_ranks}"]
    else:
        command = [
            str(Path(sys.executable).with_name("horovodrun")),
            "-np",
            str(num_ranks),
            *command,
        ]
    with cluster(threads) if launcher == "ray" else nullcontext("") as address:
        return run(command, output, threads | {"RAY_ADDRESS": address})


def main() -> None:
    """Prints the figures of both launchers, and their ratio, for each case."""
    with tempfile.TemporaryDirectory() as temporary:
        for case, (num_ranks, threads) in CASES.items():
            folder = write_text_pairs(
                Path(temporary) / f"pairs-{num_ranks}", PAIRS_PER_RANK * num_ranks
            )
            figures: dict[str, list[tuple[float, float]]] = {"horovodrun": [], "ray": []}
            for number in range(ROUNDS):
                for launcher, results in figures.items():
                    output = Path(temporary) / f"{launcher}-{num_ranks}-{number}"
                    results.append(train(launcher, num_ranks, threads, folder, output))
            print(f"{case}:")
            for launcher, results in figures.items():
                first, step = (statistics.median(column) for column in zip(*results, strict=True))
                print(
                    f"  {launcher}: first figures after {first:.1f} s, {step * 1000:.0f} ms a step"
                )
            both = zip(figures["ray"], figures["horovodrun"], strict=True)
            ratios = [on_ray / alone for (_, on_ray), (_, alone) in both]
            print(
                f"  seconds per step, ray / horovodrun: {statistics.median(ratios):.3f} "
                f"({', '.join(f'{ratio:.3f}' for ratio in ratios)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
