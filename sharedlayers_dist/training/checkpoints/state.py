"""A training run's state as a checkpoint, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.training.checkpoints.files import Checkpoint
from sharedlayers_dist.training.finite import require_finite_weights
from sharedlayers_dist.training.position import Position

if TYPE_CHECKING:
    import keras


_NUMBER = re.compile(r"_(\d+)(?=[/_]|$)")
"""What Keras appends to a name that is taken."""


class HostMemory:
    """Memory for copies of variables, taken again by each: fresh memory costs more than copying."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def copy(self, name: str, variable: keras.Variable) -> np.ndarray:
        """A copy of `variable` in the memory of `name`, where the one before is lost."""
        tensor = variable.value.read_value()
        dtype = tensor.dtype.as_numpy_dtype
        if name not in self._arrays:
            self._arrays[name] = np.empty(tensor.shape, dtype)
        np.copyto(self._arrays[name], np.frombuffer(tensor, dtype).reshape(tensor.shape))
        return self._arrays[name]


def capture(
    model: keras.Model,
    sums: Mapping[str, Iterable[np.ndarray]],
    position: Position,
    rest: Mapping[str, Any],
    memory: HostMemory,
) -> Checkpoint:
    """Copies a model's weights and optimizer to host memory.

    Args:
        model: The compiled model that is trained: a view of the pair model, or this itself.
        sums: What is not of rank zero alone, by part: over all ranks the sums of the states of the
            model's metrics (`metrics`), and of gradients that wait for an update (`accumulated`);
            the hard negatives of an epoch that has begun (`negatives`).
        position: Where the run stands.
        rest: What else the checkpoint holds; JSON.
        memory: Holds the copies. The checkpoint is good until the next one is captured in it.

    Raises:
        NotFiniteError: when a weight is not finite; such a state is not worth keeping.
    """
    parts = _parts(model)
    arrays = {
        part: [memory.copy(f"{part}.{i}", v) for i, v in enumerate(variables)]
        for part, variables in parts.items()
    }
    require_finite_weights(parts["model"], arrays["model"], position.step)
    arrays |= {part: [np.asarray(one) for one in group] for part, group in sums.items()}
    tensors = {
        f"{part}.{number:05d}": array
        for part, group in arrays.items()
        for number, array in enumerate(group)
    }
    names = {part: [variable.path for variable in variables] for part, variables in parts.items()}
    state = {"position": asdict(position), "names": names, **rest}
    return Checkpoint(step=position.step, tensors=tensors, state=state)


def restore(
    model: keras.Model,
    checkpoint: Checkpoint,
    parts: Sequence[str] = ("model", "objective", "optimizer"),
) -> None:
    """Puts a checkpoint's weights and optimizer state into a compiled and built model.

    Args:
        model: The model that is trained, or the pair model.
        checkpoint: Made of such a model.
        parts: What to restore: the pair model's variables (`model`), those that its loss has beside
            (`objective`), the optimizer's.

    Raises:
        UserError: when the checkpoint is of another model.
    """
    for part in parts:
        variables, arrays = _parts(model)[part], checkpoint.part(part)
        _require_same_names([v.path for v in variables], checkpoint.state["names"].get(part, []))
        wanted, shapes = [tuple(v.shape) for v in variables], [array.shape for array in arrays]
        if wanted != shapes:
            raise UserError(
                "A checkpoint fits the model it was made of. Received: a checkpoint whose "
                f"{part} has the shapes {shapes}, where this model's has {wanted}."
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)


def _parts(model: keras.Model) -> dict[str, list[keras.Variable]]:
    pair_model = getattr(model, "model", model).variables
    own = {id(variable) for variable in pair_model}
    return {
        "model": pair_model,
        "objective": [variable for variable in model.variables if id(variable) not in own],
        "optimizer": model.optimizer.variables,
    }


def _require_same_names(wanted: Sequence[str], stored: Sequence[str]) -> None:
    """Raises UserError if a checkpoint's variables are others than a model's, or in another order.

    Keras numbers layers without a name of their own through a whole process: `dense_7` in one may
    be `dense` in another. So numbers may differ, if they are in the same order.
    """
    ranks = zip(_ranks(wanted), _ranks(stored), strict=False)
    for ours, theirs, (our_rank, their_rank) in zip(wanted, stored, ranks, strict=False):
        if _NUMBER.sub("", ours) != _NUMBER.sub("", theirs) or our_rank != their_rank:
            raise UserError(
                "A checkpoint fits the model it was made of. Received: a checkpoint with "
                f"{theirs!r} where this model has {ours!r}. Build the same layers under the same "
                "names, in the same order."
            )


def _ranks(paths: Sequence[str]) -> list[int]:
    """Each path's place among all, sorted by their text without numbers, then by the numbers."""

    def key(path: str) -> tuple[str, list[int]]:
        names = [_NUMBER.search(f"{name}/") for name in path.split("/")]
        return _NUMBER.sub("", path), [int(found[1]) if found else 0 for found in names]

    rank_of_place = {
        place: rank
        for rank, place in enumerate(sorted(range(len(paths)), key=lambda p: key(paths[p])))
    }
    return [rank_of_place[place] for place in range(len(paths))]
