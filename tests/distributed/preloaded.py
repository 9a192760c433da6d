"""What the process that ranks are forked from has loaded; importing this loads it."""

import os

from tests.distributed.launcher import RANK_ENVIRONMENT

os.environ.update(RANK_ENVIRONMENT)  # Some of it is read as soon as TensorFlow is loaded.

import horovod.tensorflow  # noqa: F401

import sharedlayers_dist.training.fit  # noqa: F401
