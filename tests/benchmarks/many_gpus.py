"""What a model of the cost of a step predicts: `python -m tests.benchmarks.many_gpus`.

A step of n pairs on each of p GPUs takes

    a + b n + c + 2 (p - 1) l + 2 (p - 1) / p * g / w

seconds: a and b are those of one GPU, c is what Horovod takes to agree on a reduction, and the rest
is a ring that moves g bytes of gradients with the latency l of a hop and the bandwidth w of the
slowest link. Nothing is taken to overlap, since the gradients of a recurrent layer, which is all
but the first thing of the forward pass, are ready last.

By default a, b and c are those that were measured of `tweet_pair` on one H200 (docs/launching.md);
l and w are round numbers of a network of 100 Gbit/s, which was never there to be measured.
"""

from __future__ import annotations

import argparse

GRADIENT_BYTES = 4 * 82_305
"""Of `tweet_pair`, in 32 bits."""


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constant", type=float, default=10.6e-3, help="a, s")
    parser.add_argument("--per-pair", type=float, default=16.2e-6, help="b, s")
    parser.add_argument("--agreement", type=float, default=1.1e-3, help="c, s")
    parser.add_argument("--latency", type=float, default=10e-6, help="l, s")
    parser.add_argument("--bandwidth", type=float, default=12.5e9, help="w, bytes a second")
    options = parser.parse_args()

    def seconds(pairs: float, gpus: int) -> float:
        own = options.constant + options.per_pair * pairs
        if gpus == 1:
            return own
        ring = 2 * (gpus - 1) * (options.latency + GRADIENT_BYTES / gpus / options.bandwidth)
        return own + options.agreement + ring

    print("| GPUs | 2,048 pairs on each: pairs/s | of ideal | 2,048 in all: pairs/s | of ideal |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    alone = 2048 / seconds(2048, 1)
    for gpus in (1, 8, 64, 512):
        weak = 2048 * gpus / seconds(2048, gpus)
        strong = 2048 / seconds(2048 / gpus, gpus)
        print(
            f"| {gpus} | {weak:,.0f} | {weak / alone / gpus:.0%} | {strong:,.0f} | "
            f"{strong / alone / gpus:.0%} |"
        )


if __name__ == "__main__":
    main()
