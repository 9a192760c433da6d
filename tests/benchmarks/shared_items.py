"""Figures of what a shuffled batch holds: `python -m tests.benchmarks.shared_items DATASET ...`.

Each line is one set, shuffled in runs of so many rows: its stored run length, and single rows.
Items and groups are those of a batch, averaged over up to 200 batches.
"""

import sys
from itertools import islice

import numpy as np

from sharedlayers_dist.data import OrderOptions, index_dataset, plan_dataset
from sharedlayers_dist.data.inspection.rows import GroupNumbers, read_set

BATCH_SIZES = (128, 256, 1024)
NUM_STREAMS = 24


def measure(uri: str) -> None:
    """Prints the figures of one set."""
    index = index_dataset(uri)
    rows = read_set(index, np.flatnonzero(index.row_counts), GroupNumbers(), lambda _: None)
    print(f"{uri}: {index.num_rows:,} pairs")
    print(f"  {'batch':>6} {'run':>5} {'items a side':>13} {'groups':>7} {'positives':>16}")
    for batch_size in BATCH_SIZES:
        for run_length in dict.fromkeys((1, index.run_length)):
            options = OrderOptions(
                seed=0, batch_size=batch_size, num_streams=NUM_STREAMS, run_length=run_length
            )
            plan = plan_dataset(index, options, epoch=0)
            batches = [
                step.rows for step in islice(plan.iter_steps(), 200) if step.rows.size == batch_size
            ]
            items, groups = (
                np.mean([len(np.unique(values[batch])) for batch in batches])
                for values in (rows.item, rows.group)
            )
            positives = np.array([rows.label[batch].mean() for batch in batches])
            print(
                f"  {batch_size:>6} {run_length:>5} {items / (2 * batch_size):>13.3f} "
                f"{groups:>7.0f} {positives.mean():>7.1%} ± {positives.std():.2%}"
            )


if __name__ == "__main__":
    for dataset in sys.argv[1:]:
        measure(dataset)
