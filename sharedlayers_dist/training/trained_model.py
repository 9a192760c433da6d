"""A pair model made ready to be trained: its loss, its optimizer, what is measured."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import keras
import tensorflow as tf

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import (
    DataConfig,
    Mode,
    OptimizationConfig,
    TrainConfig,
    resolve_monitor,
)
from sharedlayers_dist.dist.gradients import keras_hooks
from sharedlayers_dist.dist.gradients.optimizer import distribution_of
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.training.model import PairModel
from sharedlayers_dist.training.objective import Objective, choose_objective
from sharedlayers_dist.training.optimization import DEFAULT_LOSS, make_loss, make_optimizer
from sharedlayers_dist.training.retrieval import FIGURES

_NOT_COMPILED = (
    "gradient_accumulation",
    "mini_batch_size",
    "fast_paths",
    "monitor",
    "monitor_mode",
    "early_stopping",
    "plateau",
    "retrieval_items",
)


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """One model with several kinds of inputs; all of them use the same layers and weights."""

    plain: keras.Model
    """Takes what the model takes; what a run leaves behind."""
    objective: Objective
    scorer: keras.Model | None
    """Measures validation pairs where the trained view gives no scores; compiled."""
    loss: Any
    """Of scores, as `compile` takes it; and so are the metrics."""
    metrics: Any
    """Those that do not look at the pairs' weights."""
    weighted_metrics: Any
    shares_items: bool = False
    """Whether the view is given the different items of a batch of pairs, each once."""

    @property
    def view(self) -> keras.Model:
        """Takes what batches carry; compiled, and what is trained."""
        return self.objective.view

    def compile_plain(self) -> None:
        """Compiles the plain model as it was trained, for whoever opens it.

        One whose head had no part in the loss gets an optimizer without state.
        """
        optimizer = self.view.optimizer
        if self.objective.head is not None:
            optimizer = optimizer.__class__.from_config(optimizer.get_config())
        self.plain.compile(
            optimizer=optimizer,
            loss=self.loss,
            metrics=self.metrics,
            weighted_metrics=self.weighted_metrics,
        )


def compile_for_training(
    built: PairModel, config: TrainConfig, *, num_ranks: int = 1
) -> TrainedModel:
    """Compiles what is trained, with a distributed optimizer that is built: it can be restored.

    Args:
        built: The pair model.
        config: The run's options.
        num_ranks: Ranks that train.

    Raises:
        UserError: for options beside a compiled model, and for a loss that does not go together
            with the model or the data.
    """
    options = config.group(OptimizationConfig)
    metrics: Any = None
    weighted_metrics: Any = ["accuracy", keras.metrics.AUC(name="roc_auc")]
    if built.compiled is None:
        optimizer, loss = make_optimizer(options), make_loss(options)
    else:
        _refuse_options_beside(options)
        optimizer, loss = built.compiled.optimizer, built.compiled.loss
        metrics, weighted_metrics = keras_hooks.compiled_metrics(built.compiled)
    data = config.group(DataConfig)
    fast = options.fast_paths
    objective = choose_objective(built.plain, loss, data, num_ranks=num_ranks, fast_paths=fast)
    scorer = None if objective.gives_scores else models.compact_view(built.plain, fast_paths=fast)
    trained = TrainedModel(
        plain=built.plain,
        objective=objective,
        scorer=scorer,
        loss=loss if objective.head is None else DEFAULT_LOSS,
        metrics=metrics,
        weighted_metrics=weighted_metrics,
        # Mini-batches are cut along the pairs.
        shares_items=objective.view.shares_items and not options.mini_batch_size,
    )
    _compile_view(trained.view, loss, _distribute(optimizer, options), trained)
    dist.prepare(
        trained.view,
        num_samples=count_rows,
        mini_batch_size=options.mini_batch_size or None,
    )
    if trained.scorer is not None:
        _compile_scorer(trained.scorer, trained)
    return trained


def _compile_view(view: keras.Model, loss: Any, optimizer: Any, trained: TrainedModel) -> None:
    is_of_scores = trained.objective.head is None
    last = getattr(view, "last", None)
    if last is not None and not optimizer.built:
        optimizer.exclude_from_weight_decay(last.trainable_variables)  # It would cool it down.
    view.compile(
        optimizer=optimizer,
        loss=loss,
        metrics=trained.metrics if is_of_scores else None,
        weighted_metrics=trained.weighted_metrics if is_of_scores else None,
    )
    if not view.optimizer.built:
        view.optimizer.build(view.trainable_variables)


def _compile_scorer(scorer: keras.Model, trained: TrainedModel) -> None:
    """Compiles what evaluates and is never fitted; ranks count its pairs as in training."""
    scorer.compile(
        optimizer=dist.DistributedOptimizer(keras.optimizers.SGD()),
        loss=trained.loss,
        metrics=_copy(trained.metrics),
        weighted_metrics=_copy(trained.weighted_metrics),
    )
    dist.prepare(scorer, num_samples=count_rows)


def _copy(metrics: Any) -> Any:
    """Metrics of their own state, of the same settings."""
    return keras.tree.map_structure(
        lambda m: (
            m.__class__.from_config(m.get_config()) if isinstance(m, keras.metrics.Metric) else m
        ),
        metrics,
    )


def _distribute(
    optimizer: keras.optimizers.Optimizer, options: OptimizationConfig
) -> keras.optimizers.Optimizer:
    if distribution_of(optimizer) is None:
        return dist.DistributedOptimizer(
            optimizer,
            backward_passes_per_step=options.gradient_accumulation,
            average_aggregated_gradients=True,
        )
    if options.gradient_accumulation > 1:
        raise UserError(
            "What distributes an optimizer says how many steps make an update. Received: "
            f"gradient_accumulation={options.gradient_accumulation}, for an optimizer that the "
            "model's function has distributed. Leave one of them out."
        )
    return optimizer


def with_known_monitor(config: TrainConfig, trained: TrainedModel) -> TrainConfig:
    """The options with the metric that says which model is best, and its direction.

    Args:
        config: The run's options.
        trained: The compiled model.

    Raises:
        UserError: for a metric that the model has not, or one of no known direction.
    """

    def modes_of(model: keras.Model) -> dict[str, Mode | None]:
        return {"loss": "min", **keras_hooks.mode_of_metrics(model)}

    modes = modes_of(trained.view)
    if config.validation:
        of_pairs = modes_of(trained.scorer or trained.view)
        modes |= {f"val_{name}": mode for name, mode in of_pairs.items()}
    if config.retrieval_items:
        modes |= dict.fromkeys([f"val_{name}" for name in FIGURES], "max")
    if config.monitored not in modes:
        raise UserError(
            f"`monitor` must be one of {', '.join(modes)}. Received: monitor={config.monitor!r}."
        )
    known = {name.removeprefix("val_"): mode for name, mode in modes.items() if mode is not None}
    monitor, mode = resolve_monitor(
        config.monitor,
        config.monitor_mode,
        has_validation=bool(config.validation),
        mode_of_metric=known,
    )
    return replace(config, monitor=monitor, monitor_mode=mode)


def _refuse_options_beside(options: OptimizationConfig) -> None:
    given = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if field.name not in _NOT_COMPILED and getattr(options, field.name) != field.default
    }
    if given:
        received = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise UserError(
            "A model that its function has compiled brings its optimizer, loss and metrics. "
            f"Received: {received}, beside a compiled model. Leave these options out, or return "
            "the model uncompiled."
        )


def count_rows(x: Any, y: tf.Tensor, sample_weight: Any) -> tf.Tensor:
    """Pairs or items of a batch on this rank; the padding of a rank without any has label -1.

    Args:
        x: What the model takes.
        y: Labels `(B, 1)`, or the group of each item, and keys.
        sample_weight: Not looked at.
    """
    return tf.reduce_sum(tf.cast(y[:, :1] >= 0, tf.float32))
