"""The GPU of each rank: which one it takes, and that it leaves the others alone."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from sharedlayers_dist.errors import SetupError
from sharedlayers_dist.world import World


def gpu_of_local_rank(
    local_rank: int, local_size: int, num_gpus: int, *, is_restricted: bool
) -> int | None:
    """Returns the index of the GPU that a rank takes among those it sees; None without any.

    Args:
        local_rank: The rank's index on its host.
        local_size: Ranks on the host.
        num_gpus: GPUs that this process sees.
        is_restricted: Whether the launcher already chose GPUs for this process alone, as Ray does
            with `CUDA_VISIBLE_DEVICES`.

    Raises:
        SetupError: if there are fewer GPUs than ranks on the host.
    """
    if num_gpus == 0:
        return None
    if num_gpus >= local_size:
        return local_rank
    if num_gpus == 1 and is_restricted:
        return 0
    raise SetupError(
        "Every rank needs a GPU of its own. Received: "
        f"local_size={local_size}, num_gpus={num_gpus}. Start at most {num_gpus} ranks on this "
        'host, or hide the GPUs with CUDA_VISIBLE_DEVICES="".'
    )


def pin_gpu(world: World, require_gpu: bool) -> None:
    """Makes the rank's GPU the only visible one, with growing memory."""
    gpus = tf.config.list_physical_devices("GPU")
    if require_gpu:
        require_any_gpu(gpus)
    index = gpu_of_local_rank(
        world.local_rank,
        world.local_size,
        len(gpus),
        is_restricted="CUDA_VISIBLE_DEVICES" in os.environ,
    )
    if index is None:
        return
    try:
        tf.config.set_visible_devices(gpus[index], "GPU")
        tf.config.experimental.set_memory_growth(gpus[index], True)
    except RuntimeError as e:
        raise RuntimeError(
            "A rank's GPU must be chosen before TensorFlow uses any. Call "
            "`sharedlayers_dist.dist.init()` before anything that makes a tensor."
        ) from e


def require_any_gpu(gpus: list[Any]) -> None:
    """Raises SetupError if there is no GPU."""
    if not gpus:
        raise SetupError(
            "A GPU was asked for, but TensorFlow sees none on this host. Received: "
            "require_gpu=True. Check the driver, CUDA_VISIBLE_DEVICES, and that TensorFlow was "
            "installed as tensorflow[and-cuda]."
        )
