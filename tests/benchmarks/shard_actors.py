"""Shard actors against reading in process: `python -m tests.benchmarks.shard_actors [text|image]`.

One trainer reads batches of 256 pairs, by itself and by one and two actors. All processes, Ray's
own too, are kept to the same cores: one, then two. The trainer copies each batch, as it goes into
TensorFlow's memory; a busy one also computes for `BUSY_SECONDS` a batch on one core, which is as
a training step is, but shorter. The ways take turns; of `ROUNDS` epochs of each the fastest counts.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from sharedlayers_dist import World
from sharedlayers_dist.data import (
    ModelInput,
    OrderOptions,
    PairReading,
    choose_codecs,
    index_dataset,
    resolve_alphabet,
)
from sharedlayers_dist.data.schema import PairMetadata, pair_schema
from sharedlayers_dist.ray.reading.shard_reader import ShardReader
from sharedlayers_dist.ray.reading.shard_requests import start_shard_actors
from tests.benchmarks.data import write_pairs

BATCH_SIZE = 256
NUM_PAIRS = 200_000
ROWS_PER_GROUP = 5_000
BUSY_SECONDS = 0.003
ROUNDS = 5
NUM_ACTORS = (0, 1, 2)
MODEL_INPUTS = {
    "text": ModelInput("a", (280, 256), "float32"),
    "image": ModelInput("a", (28, 28, 1), "float32"),
}


def write_images(folder: str) -> None:
    """Writes pairs of digit-sized images of noise."""
    item = pa.fixed_shape_tensor(pa.uint8(), (28, 28, 1))
    schema = pair_schema(item, PairMetadata(kind="image"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, NUM_PAIRS, 28, 28, 1), np.uint8)
    images = [pa.FixedShapeTensorArray.from_numpy_ndarray(side).cast(item) for side in pixels]
    label = pa.array(np.arange(NUM_PAIRS) % 2, pa.int8())
    none = pa.nulls(NUM_PAIRS, pa.string())
    table = pa.table([*images, label, none, none], schema=schema)
    pq.write_table(table, f"{folder}/1.parquet", row_group_size=ROWS_PER_GROUP)


def read_from(folder: str) -> PairReading:
    """What is read, in this process or in actors."""
    index = index_dataset(folder)
    alphabet = resolve_alphabet(index) if index.kind == "text" else ""
    taken = dict.fromkeys("ab", MODEL_INPUTS[index.kind])
    return PairReading(
        index=index,
        codecs=choose_codecs(index, taken, alphabet=alphabet),
        options=OrderOptions(seed=0, batch_size=BATCH_SIZE, num_streams=24),
    )


def bytes_hashed_in(seconds: float) -> bytes:
    """Bytes whose hash takes this long, without Python's lock."""
    data = bytes(1 << 20)
    begin = time.perf_counter()
    for _ in range(20):
        hashlib.sha256(data)
    return bytes(int(len(data) * seconds * 20 / (time.perf_counter() - begin)))


def read_epoch(reader, epoch: int, work: bytes) -> float:
    """Reads an epoch as a trainer does; pairs per second."""
    begin = time.perf_counter()
    num_read = 0
    with reader.batches(epoch) as batches:
        for batch in batches:
            num_read += len(batch.rows)
            for values in batch:
                values.copy()
            if work:
                hashlib.sha256(work)
    return num_read / (time.perf_counter() - begin)


def measure(kind: str, cores: str) -> None:
    """Prints the figures of one kind of pairs on some cores."""
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    with tempfile.TemporaryDirectory() as folder:
        if kind == "text":
            write_pairs(folder, NUM_PAIRS, ROWS_PER_GROUP)
        else:
            write_images(folder)
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
        actors = start_shard_actors(max(NUM_ACTORS))
        reading = read_from(folder)
        readers = {
            n: ShardReader(actors[:n], reading, World()) if n else reading.open(World())
            for n in NUM_ACTORS
        }
        for is_busy in (False, True):
            work = bytes_hashed_in(BUSY_SECONDS) if is_busy else b""
            speeds: dict[int, list[float]] = {n: [] for n in NUM_ACTORS}
            for epoch in range(ROUNDS + 1):
                for n, reader in readers.items():
                    speeds[n].append(read_epoch(reader, epoch, work))
            best = {n: max(of_epochs[1:]) for n, of_epochs in speeds.items()}
            for n in NUM_ACTORS:
                print(
                    f"  {kind:5} {cores.count(',') + 1:5} {'busy' if is_busy else 'idle':>7} "
                    f"{n or 'in process':>10} {best[n]:10,.0f} {best[n] / best[0]:8.2f}",
                    flush=True,
                )
        ray.shutdown()


def main() -> None:
    """Measures in a process of its own for each number of cores."""
    if len(sys.argv) == 3 and sys.argv[2][0].isdigit():
        return measure(*sys.argv[1:])
    print(f"  {'':5} {'cores':>5} {'trainer':>7} {'actors':>10} {'pairs/s':>10} {'ratio':>8}")
    available = sorted(os.sched_getaffinity(0))
    for kind in sys.argv[1:] or ("text", "image"):
        for num_cores in (1, 2):
            cores = ",".join(str(core) for core in available[:num_cores])
            subprocess.run([sys.executable, "-m", __spec__.name, kind, cores], check=True)


if __name__ == "__main__":
    main()
