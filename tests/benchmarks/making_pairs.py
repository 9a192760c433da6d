"""How long a pair dataset takes to make, and how much memory that needs.

Run it with `python -m tests.benchmarks.making_pairs`. The default is a million pairs of two hundred
thousand texts in a CSV file.
"""

from __future__ import annotations

import argparse
import csv
import resource
import sys
import tempfile
import time
from pathlib import Path

from sharedlayers_dist.config import PairsConfig
from sharedlayers_dist.data.making.make_pairs import make_pairs

sys.path.append(str(Path(__file__).parents[2] / "datasets"))
from tweets import write_tweets


def peak_megabytes() -> float:
    """The most memory that this process has had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Writes a file of texts, makes pairs of them, and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-texts", type=int, default=200_000)
    parser.add_argument("--num-pairs", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        items = Path(folder, "items.csv")
        write_items(items, options.num_texts)
        before = peak_megabytes()
        start = time.perf_counter()
        config = PairsConfig(
            items=str(items),
            text="text",
            group="author",
            output=str(Path(folder, "pairs")),
            num_pairs=options.num_pairs,
        )
        print(make_pairs(config, progress=sys.stderr.isatty()))
        seconds = time.perf_counter() - start
        written = sum(x.stat().st_size for x in Path(folder, "pairs").rglob("*.parquet"))
        print(
            f"{options.num_pairs:,} pairs of {options.num_texts:,} texts "
            f"({items.stat().st_size / 2**20:.0f} MB): {seconds:.1f} s, peak memory "
            f"{peak_megabytes():.0f} MB ({before:.0f} MB before), {written / 2**20:.0f} MB written"
        )


def write_items(path: Path, num_texts: int) -> None:
    """Writes texts of synthetic authors, 10,000 at a time, each time of other authors."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["author", "text"])
        for part, start in enumerate(range(0, num_texts, 10_000)):
            size = min(10_000, num_texts - start)
            source = write_tweets(size, max(1, size // 20), seed=part)
            pairs = zip(source.groups.to_pylist(), source.items.to_pylist(), strict=True)
            rows.writerows((f"{part}-{author}", text) for author, text in pairs)


if __name__ == "__main__":
    main()
