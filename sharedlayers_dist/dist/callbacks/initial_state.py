"""`BroadcastInitialState`: every rank starts from rank zero's state."""

from __future__ import annotations

from typing import Any

import keras

from sharedlayers_dist.dist import runtime
from sharedlayers_dist.dist.callbacks.entry import require_same_entry
from sharedlayers_dist.dist.collectives import (
    allgather_object,
    broadcast_arrays,
    broadcast_object,
    raise_on_all_ranks,
)
from sharedlayers_dist.dist.gradients.keras_hooks import is_built, seed_states
from sharedlayers_dist.dist.gradients.optimizer import distribution_of
from sharedlayers_dist.dist.gradients.step import prepare, prepared_step

_GOLDEN_RATIO = 0x9E3779B9  # Of 2**32: its multiples lie far apart.


class BroadcastInitialState(keras.callbacks.Callback):
    """Gives every rank the state of one rank when training begins, before the first step.

    That is: weights, trainable or not; the optimizer's iteration count, learning rate and slots
    (an optimizer that is not built yet is built first); and the metrics. The layers' random number
    generators get that rank's states, too, but each rank another seed: otherwise all ranks would
    drop the same entries of their pairs. A model without known shapes is built by the first batch,
    and gets its state then, still before it computes anything.

    Before the first step it compares how the ranks have entered `fit`: the epoch they begin with,
    epochs, steps, optimizer, loss, metrics. It also calls `prepare(model)`, which makes gradients
    the mean over all samples of all ranks. With one rank it does nothing else.

    Args:
        root: The rank whose state all get.

    Raises:
        UserError: on every rank, if the ranks have entered `fit` in different ways.
    """

    def __init__(self, *, root: int = 0) -> None:
        super().__init__()
        self._root = root
        self._has_begun = False

    def set_model(self, model: keras.Model) -> None:
        """Prepares the model's steps; Keras calls this before it makes its training function."""
        super().set_model(model)
        if prepared_step(model) is None:
            prepare(model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Broadcasts, or arranges it for the first step if the model is not built."""
        self._has_begun = False
        if runtime.size() == 1:
            return
        if all(allgather_object(is_built(self.model))):
            self._broadcast()
            return
        step = prepared_step(self.model)
        if step is not None:
            step.when_built = self._broadcast

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Compares the ranks before the first epoch: other callbacks may have moved one on."""
        if runtime.size() > 1 and not self._has_begun:
            require_same_entry(self.model, epoch, self.params)
        self._has_begun = True

    def _broadcast(self) -> None:
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        broadcast_state(self.model, root=self._root)
        _draw_own_numbers(self.model, runtime.rank() - self._root)


def broadcast_state(model: keras.Model, *, root: int = 0) -> None:
    """Overwrites a built model's and its optimizer's variables with those of rank `root`.

    Gradients that each rank has accumulated for itself stay its own. Where the root stands after
    another pass than a rank, this one has no part in what the root has accumulated.

    Raises:
        RuntimeError: on every rank, if the ranks' models have not the same variables.
    """
    if runtime.size() == 1:
        return
    variables = [*model.variables, *model.optimizer.variables]
    names = [v.path for v in variables]
    distribution = distribution_of(model.optimizer)
    accumulation = None if distribution is None else distribution.accumulation
    if accumulation is not None:
        variables.append(accumulation.passes)
        names.append(accumulation.passes.name)
        passes_here = int(accumulation.passes.numpy())
    # Metrics are made when they are first used, which some ranks may have done alone, e.g. to
    # evaluate. Where they differ they are left: fit() resets them at the start of an epoch.
    metrics = [v for metric in model.metrics for v in metric.variables]
    shapes = [(str(v.dtype), tuple(v.shape)) for v in metrics]
    if all(other == shapes for other in allgather_object(shapes)):
        variables += metrics
        names += [v.path for v in metrics]
    _require_same_variables(variables, names, root)
    arrays = [_value(v).numpy() for v in variables]
    for variable, array in zip(variables, broadcast_arrays(arrays, root=root), strict=True):
        variable.assign(array)
    if accumulation is not None and int(accumulation.passes.numpy()) != passes_here:
        accumulation.forget()


def _draw_own_numbers(model: keras.Model, distance: int) -> None:
    """Gives this rank's generators other seeds, the further it is from the root.

    The root's stay as they are: from them, as a checkpoint has them, all ranks' follow.
    """
    for state in seed_states(model):
        seed, *counter = state.numpy().tolist()
        state.assign([(seed + distance * _GOLDEN_RATIO) % 2**32, *counter])


def _require_same_variables(variables: list[Any], names: list[str], root: int) -> None:
    """Raises on every rank if a rank's variables are not of the root's dtypes and shapes."""
    own = [(str(v.dtype), tuple(v.shape)) for v in variables]
    expected = broadcast_object((own, names), root=root)
    error = None
    if own != expected[0]:
        here = list(zip(names, own, strict=True))
        there = list(zip(expected[1], expected[0], strict=True))
        first = next(
            ((a, b) for a, b in zip(here, there, strict=False) if a[1] != b[1]),
            (f"{len(here)} variables", f"{len(there)} variables"),
        )
        error = RuntimeError(
            "All ranks must make the same model and optimizer. Received: "
            f"{first[0]} here, {first[1]} on rank {root}."
        )
    raise_on_all_ranks(error)


def _value(variable: Any) -> Any:
    """Returns a Keras or TensorFlow variable's tensor in its own dtype."""
    return variable.value if hasattr(variable, "path") else variable
