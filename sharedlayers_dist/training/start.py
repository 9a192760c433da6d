"""What all ranks do together before the first step: one model, the same settings, one state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from sharedlayers_dist import dist
from sharedlayers_dist.config import ModelConfig, TrainConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.keras_settings import read_keras_settings
from sharedlayers_dist.training.checkpoints import state
from sharedlayers_dist.training.checkpoints.files import Checkpoint
from sharedlayers_dist.training.model import PairModel, build_pair_model
from sharedlayers_dist.training.model_source import ModelSource
from sharedlayers_dist.training.run_setup import RunSetup
from sharedlayers_dist.training.stored_config import storable
from sharedlayers_dist.user_code import UserCode


class Restored(NamedTuple):
    """What rank zero's checkpoint holds beside what the model has; nothing on the others."""

    metrics: Sequence[np.ndarray] | None = None
    """The states of the metrics."""
    negatives: Sequence[np.ndarray] = ()
    """The hard negatives of an epoch that has begun, where there are any."""


def build_on_all_ranks(
    config: TrainConfig, source: ModelSource
) -> tuple[UserCode | None, PairModel]:
    """Builds the model on every rank from one code: that which rank zero reads.

    Raises:
        UserError: on all ranks, for a model that cannot be built, or other code on some rank.
    """
    options = config.group(ModelConfig)
    code = dist.call_on_rank_zero(lambda: source.read(options))
    dist.raise_on_all_ranks(_other_code(source, options, code))
    build = source.load(code)
    keras.utils.set_random_seed(config.seed)  # After the import, which may draw numbers.
    return code, build_pair_model(options, build)


def _other_code(
    source: ModelSource, options: ModelConfig, code: UserCode | None
) -> UserError | None:
    """An error if this rank brings a function with another text than rank zero's."""
    if source.build is None or code is None:
        return None
    here = source.read(options)
    if here is None or here.digests == code.digests:
        return None
    return UserError(
        "All ranks must build the model with the same code. Received: "
        f"{here.entry} with another text than {code.entry} on rank 0. Start all ranks from the "
        "same sources."
    )


def require_same_options(config: TrainConfig) -> None:
    """Makes sure that this rank has rank zero's options; a file on its host may say others.

    Raises:
        UserError: on all ranks.
    """
    here = storable(config)
    there = dist.broadcast_object(here)
    differing = [
        f"{name}={value!r}, and on rank 0 {name}={there[name]!r}"
        for name, value in here.items()
        if value != there[name]
    ]
    error = UserError(
        f"All ranks must have the same options. Received: {'; '.join(differing)}. Give all ranks "
        "the same command line, and all hosts the same file of options."
    )
    dist.raise_on_all_ranks(error if differing else None)


def require_same_settings(setup: RunSetup) -> None:
    """Makes sure that Keras is set here as on rank zero; on another host it may not be.

    Raises:
        UserError: on all ranks.
    """
    here, there = read_keras_settings(), setup.facts["keras_settings"]
    error = UserError(
        f"Keras must have the same settings on all ranks. Received: {here}, and on rank 0 {there}. "
        "Give all hosts the same keras.json, or the same KERAS_HOME."
    )
    dist.raise_on_all_ranks(None if here == there else error)


def restore_on_rank_zero(
    model: keras.Model, checkpoint: Checkpoint | None, setup: RunSetup
) -> Restored:
    """Puts rank zero's checkpoint into the model.

    The other ranks have no checkpoint, and get all of it when training begins.

    Returns:
        What else it holds, where the run goes on.
    """
    if checkpoint is None:
        return Restored()
    if not setup.state:  # Only weights are taken from another run.
        state.restore(model, checkpoint, parts=["model"])
        return Restored()
    state.restore(model, checkpoint)
    dist.resume_accumulated_gradients(model.optimizer, checkpoint.part("accumulated"))
    return Restored(checkpoint.part("metrics"), checkpoint.part("negatives"))
