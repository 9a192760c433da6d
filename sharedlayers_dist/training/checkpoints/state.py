"""A training run's state as a checkpoint, and back."""

from __future__ import annotations

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
    metric_states: Iterable[np.ndarray],
    position: Position,
    rest: Mapping[str, Any],
    memory: HostMemory,
) -> Checkpoint:
    """Copies a model's weights and optimizer to host memory.

    Args:
        model: The compiled model that is trained.
        metric_states: The states of the model's metrics, added over all ranks.
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
    arrays["metrics"] = [np.asarray(state) for state in metric_states]
    tensors = {
        f"{part}.{number:05d}": array
        for part, group in arrays.items()
        for number, array in enumerate(group)
    }
    names = {part: [variable.path for variable in variables] for part, variables in parts.items()}
    state = {"position": asdict(position), "names": names, **rest}
    return Checkpoint(step=position.step, tensors=tensors, state=state)


def restore(
    model: keras.Model, checkpoint: Checkpoint, parts: Sequence[str] = ("model", "optimizer")
) -> None:
    """Puts a checkpoint's weights and optimizer state into a compiled and built model.

    Raises:
        UserError: when the checkpoint is of another model.
    """
    for part in parts:
        variables, arrays = _parts(model)[part], checkpoint.part(part)
        wanted, shapes = [tuple(v.shape) for v in variables], [array.shape for array in arrays]
        if wanted != shapes:
            raise UserError(
                "A checkpoint fits the model it was made of. Received: a checkpoint whose "
                f"{part} has the shapes {shapes}, where this model's has {wanted}."
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)


def _parts(model: keras.Model) -> dict[str, list[keras.Variable]]:
    return {"model": model.variables, "optimizer": model.optimizer.variables}
