"""Figures of reading: `python -m tests.benchmarks.data [plan] [text] [reader] [waiting]`.

Each part runs in a process of its own, the first two on one core. CPU time is what counts on a
machine that others use too; wall time is shown beside it.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharedlayers_dist.data import (
    ModelInput,
    OrderOptions,
    PairReading,
    choose_codecs,
    encode_text,
    index_dataset,
    make_alphabet,
    resolve_alphabet,
)
from sharedlayers_dist.data.order.epoch_plan import plan_epoch
from sharedlayers_dist.data.schema import PairMetadata, pair_schema
from sharedlayers_dist.world import World

NUM_RANKS = 1024
MEAN_LENGTH = 83
TWEET = ModelInput("a", (280, 256), "float32")


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def measure_plan() -> None:
    """Plans an epoch of 10^9 rows in 10^6 row groups as one of 1,024 ranks does."""
    counts = np.random.default_rng(0).multinomial(10**9, np.full(10**6, 1e-6))
    options = OrderOptions(seed=0, batch_size=256 * NUM_RANKS, num_streams=NUM_RANKS)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock = Clock()
    plan = plan_epoch(counts, options, epoch=0)
    steps = plan.iter_steps(rank=7, size=NUM_RANKS)
    next(steps)
    planned = clock.read()
    clock = Clock()
    num_rows = 256 + sum(step.rows.size for step in steps)
    walked = clock.read()
    clock = Clock()
    plan.rows_of_step(plan.num_steps - 1, rank=7, size=NUM_RANKS)
    sought = clock.read()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    tracemalloc.start()
    steps = plan_epoch(counts, options, epoch=1).iter_steps(rank=7, size=NUM_RANKS)
    next(steps)
    peak = tracemalloc.get_traced_memory()[1]
    print(f"plan: {counts.sum():,} rows in {counts.size:,} row groups, {NUM_RANKS:,} ranks")
    print(f"  to the first step      {planned[0]:7.2f} s wall {planned[1]:7.2f} s CPU  (aim: 2 s)")
    print(
        f"  all steps of one rank  {walked[0]:7.2f} s wall {walked[1]:7.2f} s CPU  ({num_rows:,})"
    )
    print(f"  seek to the last step  {sought[0]:7.4f} s wall {sought[1]:7.4f} s CPU")
    print(f"  memory of the plan     {peak / 1e6:7.1f} MB allocated at most  (aim: 200 MB)")
    print(f"  memory of the process  {grown / 1e3:7.1f} MB more than before planning")


def make_tweets(num_texts: int, share_beyond_ascii: float) -> pa.Array:
    """Texts of log-normal length, mean 83 characters, some over 280."""
    random = np.random.default_rng(0)
    sigma = 0.8
    lengths = random.lognormal(np.log(MEAN_LENGTH) - sigma**2 / 2, sigma, num_texts)
    lengths = np.clip(lengths, 1, 600).astype(int)
    characters = random.choice(list("  eeettaaooinshrdlu.,!?@#ABCDEFGbcfgmpwykv'"), lengths.sum())
    is_other = random.random(characters.size) < share_beyond_ascii
    characters[is_other] = random.choice(list("äöüéñ한국어日本語😀❤"), is_other.sum())
    text = "".join(characters)
    stops = np.cumsum(lengths)
    return pa.array([text[stop - n : stop] for n, stop in zip(lengths, stops, strict=True)])


def measure_text() -> None:
    """Encodes tweets in batches of several sizes."""
    print("text to ids: tweets per second of CPU time on one core  (aim: 300,000)")
    print(f"  {'beyond ASCII':>14} {'rows a call':>12} {'tweets/s':>12} {'wall':>12}")
    for share in (0, 0.05, 1):
        texts = make_tweets(100_000, share)
        alphabet = make_alphabet([texts])
        encode_text(texts.slice(0, 1000), alphabet, 280)
        for rows in (256, 4096, 100_000):
            clock = Clock()
            for start in range(0, len(texts), rows):
                encode_text(texts.slice(start, rows), alphabet, 280)
            wall, cpu = clock.read()
            print(
                f"  {share:14.0%} {rows:12,} {len(texts) / cpu:12,.0f} {len(texts) / wall:12,.0f}"
            )
        clock = Clock()
        make_alphabet([texts])
        print(f"  {share:14.0%} {'alphabet':>12} {len(texts) / clock.read()[1]:12,.0f}")


def write_pairs(folder: str, num_pairs: int, rows_per_group: int) -> None:
    """Writes a text dataset of 8 files."""
    texts = make_tweets(2 * num_pairs, 0.05)
    metadata = PairMetadata(kind="text", alphabet=make_alphabet([texts]))
    schema = pair_schema(pa.string(), metadata)
    none = pa.nulls(num_pairs, pa.string())
    label = pa.array(np.arange(num_pairs) % 2, pa.int8())
    table = pa.table([texts[:num_pairs], texts[num_pairs:], label, none, none], schema=schema)
    rows = num_pairs // 8
    for number in range(8):
        part = table.slice(number * rows, rows)
        pq.write_table(part, f"{folder}/part-{number}.parquet", row_group_size=rows_per_group)


def measure_reader() -> None:
    """Reads an epoch of text pairs from a local disk, with nothing else to do."""
    num_pairs = 200_000
    with tempfile.TemporaryDirectory() as folder:
        # In another process, so that what writing needs is not taken for the reader's.
        writer = get_context("spawn").Process(target=write_pairs, args=(folder, num_pairs, 5_000))
        writer.start()
        writer.join()
        index = index_dataset(folder)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print("reader: text pairs per second, decoded to ids (CPU: all threads together)")
        print(f"  {'batch':>6} {'ranks':>6} {'pairs/s wall':>13} {'pairs/s CPU':>13}")
        for batch_size, size in ((256, 1), (4096, 1), (256, 4)):
            reading = PairReading(
                index=index,
                codecs=choose_codecs(
                    index, dict.fromkeys("ab", TWEET), alphabet=resolve_alphabet(index)
                ),
                options=OrderOptions(seed=0, batch_size=batch_size, num_streams=24),
            )
            reader = reading.open(World(rank=0, size=size))
            clock = Clock()
            num_read = sum(len(batch.rows) for batch in reader.batches(0))
            wall, cpu = clock.read()
            print(f"  {batch_size:6} {size:6} {num_read / wall:13,.0f} {num_read / cpu:13,.0f}")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
        print(f"  memory of the process: at most {grown / 1e3:.0f} MB more than before reading")


def measure_waiting() -> None:
    """Trains the tweet model at full speed; the first line of figures holds the compilation."""
    with tempfile.TemporaryDirectory() as folder:
        pairs, run = Path(folder, "pairs"), Path(folder, "run")
        pairs.mkdir()
        write_pairs(str(pairs), 8192, 256)
        command = [sys.executable, "-m", "sharedlayers_dist", "train", "--pairs", str(pairs)]
        command += ["--output", str(run), "--epochs", "1", "--log-every", "4"]
        subprocess.run(command, check=True, capture_output=True)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"][1:]
    shares = [line["data_wait_share"] for line in steps]
    speed = statistics.median(line["pairs_per_second"] for line in steps)
    print(f"waiting: the tweet model in training, batches of 256, {speed:,.0f} pairs/s")
    print(
        f"  share of the steps spent waiting for data: {statistics.mean(shares):.2%}, "
        f"{max(shares):.2%} at most  (aim: 5 %)"
    )


PARTS = {
    "plan": measure_plan,
    "text": measure_text,
    "reader": measure_reader,
    "waiting": measure_waiting,
}
ON_ONE_CORE = ("plan", "text")


def main(names: list[str]) -> None:
    """Runs the parts named, each in a process of its own."""
    if len(names) == 1:
        if names[0] in ON_ONE_CORE:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            pa.set_cpu_count(1)
        PARTS[names[0]]()
        return
    for name in names or PARTS:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.data", name], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
