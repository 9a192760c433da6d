"""`ExactMetrics`: metrics over the samples of all ranks, equal to those of one process."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.collectives import (
    allgather_object,
    allreduce_sum,
    raise_on_all_ranks,
)
from sharedlayers_dist.dist.gradients.keras_hooks import (
    gives_one_number_a_batch,
    note_functions_of_batches,
)
from sharedlayers_dist.errors import CollectiveUserError, UserError

States = list[np.ndarray]
"""The values of all variables of a model's metrics."""


def exact_metrics(model: keras.Model) -> dict[str, Any]:
    """Returns the metrics over the samples of all ranks, from the states that they have now.

    The states are left as they were, so that it can be called in the middle of an epoch. All
    ranks must call it.

    Raises:
        UserError: on every rank, if a metric's states cannot be added; see `ExactMetrics`. Also if
            a function of one's own was called before this process made an `ExactMetrics` or a
            `DistributedOptimizer`, which see whether it gives a number for each sample.
    """
    return _results(model, _states(model))


class ExactMetrics(keras.callbacks.Callback):
    """Replaces the metrics in the logs by those over the samples of all ranks.

    Metrics keep sums (correct predictions, samples, a histogram of scores): added over the ranks,
    they give what one process gets that sees all samples. Averaging the ranks' results would not.
    It acts on the logs at the end of every epoch, training and validation, and at the end of
    `evaluate`; callbacks that come after it in the list see the new values. What `evaluate`
    returns Keras does not let a callback change: ask `exact_metrics(model)` after it. With one
    rank it does nothing.

    All metrics of Keras keep sums. A metric class of one's own must say so, by a class attribute
    `additive = True`, unless it is `MeanMetricWrapper` or `Mean` with another name. A function that
    gives one number for a whole batch (a precision, say) has a mean over batches, which depends on
    how they are cut: it is refused.

    A rank without any batch, whose share of the data is empty, adds nothing and logs the same.

    Raises:
        UserError: on every rank at the end of an epoch, if a metric's states cannot be added, or
            if only some ranks have validated.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_training = False
        self._train_states: States | None = None
        self._num_test_batches = 0
        if runtime.size() > 1:
            note_functions_of_batches()

    def on_train_begin(self, logs: Any = None) -> None:
        """Notes that evaluations until the end of training are validations."""
        self._is_training = True

    def on_train_end(self, logs: Any = None) -> None:
        """Ends what `on_train_begin` begins."""
        self._is_training = False

    def on_test_begin(self, logs: Any = None) -> None:
        """Keeps the states of training: validation resets the same metrics for itself."""
        self._num_test_batches = 0
        if self._is_training and runtime.size() > 1:
            self._train_states = _states(self.model)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts the batches of an evaluation."""
        self._num_test_batches += 1

    def on_test_end(self, logs: Any = None) -> None:
        """Replaces the logs of an evaluation that is not part of `fit`."""
        if self._num_test_batches == 0:
            # Keras runs the step once to see that there is no batch, and what does not depend on
            # the batch's contents, a count of rows, is then added all the same.
            self.model.reset_metrics()
        if not self._is_training and runtime.size() > 1 and logs is not None:
            _replace(logs, exact_metrics(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Replaces the logs of training and validation."""
        if runtime.size() == 1 or logs is None:
            return
        states, self._train_states = self._train_states, None
        _require_validation_of_all(is_validated=states is not None)
        if states is None:
            _replace(logs, exact_metrics(self.model))
            return
        validation = exact_metrics(self.model)
        _replace(logs, _results(self.model, states))
        _replace(logs, {f"val_{name}": value for name, value in validation.items()})


def _require_validation_of_all(*, is_validated: bool) -> None:
    """Raises on every rank if only some of them have validated in this epoch."""
    with runtime.watch_exchange():
        ranks = [rank for rank, flag in enumerate(allgather_object(is_validated)) if flag]
    if len(ranks) not in (0, runtime.size()):
        raise CollectiveUserError(
            "All ranks must validate, or none. Received: validation on "
            f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))} of "
            f"{runtime.size()} ranks. Give every rank its share of the validation data, or "
            "evaluate after fit()."
        )


def _replace(logs: dict[str, Any], results: dict[str, Any]) -> None:
    """Replaces logs by results, unless a step of the user's own logs something else.

    Keras takes the metrics of the model for the epoch's logs by the same rule. A rank that saw no
    batch has logged nothing; it goes by the others.
    """
    with runtime.watch_exchange():
        if any(allgather_object(results.keys() <= logs.keys())):
            logs.update(results)


def _metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """Returns the model's metrics, those of `compile` one by one."""
    metrics: list[keras.metrics.Metric] = []
    for metric in model.metrics:
        metrics += getattr(metric, "metrics", None) or [metric]
    return metrics


def _variables(model: keras.Model) -> list[Any]:
    return [v for metric in _metrics(model) for v in metric.variables]


def _states(model: keras.Model) -> States:
    return [v.numpy() for v in _variables(model)]


def _results(model: keras.Model, states: States) -> dict[str, Any]:
    """Returns the results of the states added over all ranks."""
    with runtime.watch_exchange():
        if runtime.size() > 1:
            raise_on_all_ranks(_not_additive(model))
        totals = allreduce_sum(states)
    kept = _states(model)
    try:
        for variable, total in zip(_variables(model), totals, strict=True):
            variable.assign(total.astype(variable.dtype))
        results = model.get_metrics_result()
    finally:
        for variable, value in zip(_variables(model), kept, strict=True):
            variable.assign(value)
    return {name: _as_plain(value) for name, value in results.items()}


def _as_plain(value: Any) -> Any:
    """Returns a scalar as float, and anything larger as array: as Keras has them in its logs."""
    array = keras.ops.convert_to_numpy(value)
    return float(array) if array.ndim == 0 else array


def _not_additive(model: keras.Model) -> UserError | None:
    """Returns an error that names the first metric whose states cannot be added."""
    for metric in _metrics(model):
        one_number = gives_one_number_a_batch(metric)
        if one_number is None:
            return UserError(
                "Whether a metric's function gives a number for each sample is seen where it is "
                f"called. Received: metric={metric.name!r}, called before this process made "
                "ExactMetrics() or a DistributedOptimizer. Let the model be evaluated with "
                "callbacks=[dist.ExactMetrics()]."
            )
        if one_number:
            return UserError(
                "A metric must give a number for each sample, to be averaged over the samples of "
                f"all ranks. Received: metric={metric.name!r}, a function that gives one number "
                "for a batch. Use a keras.metrics.Metric that keeps sums (Precision, Recall, AUC), "
                "or let the function return one number a sample."
            )
        if metric.variables and not is_additive(metric):
            return UserError(
                "ExactMetrics adds the states of metrics over the ranks, and must know that this "
                f"makes sense. Received: metric={metric.name!r} of class "
                f"{type(metric).__name__}, which does not say so. If every variable of it is a "
                "sum over samples, give the class the attribute `additive = True`; if not, leave "
                "the metric out."
            )
    return None


def is_additive(metric: keras.metrics.Metric) -> bool:
    """Returns whether the sum of a metric's states over ranks is the state of all samples."""
    declared = getattr(metric, "additive", None)
    if declared is not None:
        return bool(declared)
    return type(metric).__module__.startswith("keras.src.")
