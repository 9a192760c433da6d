#!/usr/bin/env python
"""Trains on the Ray cluster that it is started on: for `ray submit` and `ray job submit`.

    ray submit launch/cluster-local.yaml launch/ray_train.py -- \
        --pairs /shared/pairs/train --output /shared/runs/one --num-workers 2
    ray job submit --working-dir . -- python launch/ray_train.py \
        --pairs s3://bucket/pairs/train --output s3://bucket/runs/one --num-workers 2

The options are those of `sharedlayers train`. It never starts a cluster of its own: without one it
ends with exit code 2.
"""

import os
import sys

from sharedlayers_dist.cli import main

if __name__ == "__main__":
    os.environ.setdefault("RAY_ADDRESS", "auto")
    main(["train", "--launcher", "ray", *sys.argv[1:]])
