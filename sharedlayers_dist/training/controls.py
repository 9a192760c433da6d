"""The callbacks that a run's options ask for: what validates, what ends it, what sets its rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import DataConfig, OptimizationConfig, TrainConfig
from sharedlayers_dist.data import Reader
from sharedlayers_dist.data.reading.groups_reader import GroupsReader
from sharedlayers_dist.training.mining import MineNegatives
from sharedlayers_dist.training.optimization import ScheduleLearningRate
from sharedlayers_dist.training.pair_validation import ValidatePairs
from sharedlayers_dist.training.position import Position, PositionTracker
from sharedlayers_dist.training.retrieval_validation import RankedItems, ValidateRetrieval
from sharedlayers_dist.training.trained_model import TrainedModel


def make_controls(config: TrainConfig) -> list[keras.callbacks.Callback]:
    """What may end the training early or change the learning rate."""
    watch: dict[str, Any] = {"monitor": config.monitored, "mode": config.monitored_mode}
    controls: list[keras.callbacks.Callback] = []
    if config.early_stopping:
        controls.append(dist.AgreedEarlyStopping(patience=config.early_stopping, **watch))
    if config.plateau:
        controls.append(dist.AgreedReduceLROnPlateau(factor=0.2, patience=config.plateau, **watch))
    return controls


def make_validation(
    model: TrainedModel, reader: Reader | None, ranked: RankedItems | None
) -> list[keras.callbacks.Callback]:
    """What Keras's own validation leaves: pairs that the trained view does not take; retrieval."""
    validation: list[keras.callbacks.Callback] = []
    if model.scorer is not None and reader is not None:
        head = model.objective.head
        validation.append(ValidatePairs(model.scorer, reader, head, model.view.compare))
    if ranked is not None:
        view = models.EncodingView(model.plain)
        validation.append(ValidateRetrieval(view, ranked, dist.world()))
    return validation


def make_mining(
    config: TrainConfig,
    model: TrainedModel,
    reader: Reader,
    start: Position,
    restored: Sequence[np.ndarray],
) -> list[MineNegatives]:
    """What looks for hard negatives, where the options ask for some; `restored` as it has it."""
    if not (config.hard_negatives and isinstance(reader, GroupsReader)):
        return []
    view, options = models.EncodingView(model.plain), config.group(DataConfig)
    at_once = config.mini_batch_size or config.batch_size
    return [MineNegatives(view, reader, options, at_once=at_once, start=start, restored=restored)]


def make_schedule(
    options: OptimizationConfig, track: PositionTracker
) -> list[ScheduleLearningRate]:
    """What sets the learning rate of each step, where the options have a schedule."""
    num_steps = track.epochs * track.steps_per_epoch
    return (
        [ScheduleLearningRate(track, options, num_steps=num_steps)] if options.has_schedule else []
    )
