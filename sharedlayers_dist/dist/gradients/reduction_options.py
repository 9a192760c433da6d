"""How gradients are combined over ranks, and which of them are reduced together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sharedlayers_dist.errors import UserError

Average = "average"
Sum = "sum"
Adasum = "adasum"


@dataclass(frozen=True, kw_only=True)
class ReductionOptions:
    """How gradients are combined; `DistributedOptimizer` says more of each.

    Raises:
        UserError: for a compression or groups that cannot be used.
    """

    op: str = Average
    compression: Any = None
    gradient_predivide_factor: float = 1.0
    sparse_as_dense: bool = False
    groups: Any = None
    process_set: Any = None

    def __post_init__(self) -> None:
        """Checks what can be checked without the ranks."""
        _check_compression(self.compression)
        _check_groups(self.groups)


def split_into_groups(groups: Any, variables: Sequence[Any]) -> list[list[int]]:
    """Returns which of the gradients of `variables` are reduced together, as positions among them.

    Args:
        groups: See `DistributedOptimizer`.
        variables: Those of the dense gradients, in their order.
    """
    everything = list(range(len(variables)))
    if groups is None:
        return [everything] if variables else []
    if isinstance(groups, int):
        count = min(groups, len(variables)) or 1
        bounds = [round(k * len(variables) / count) for k in range(count + 1)]
        return [everything[a:b] for a, b in itertools.pairwise(bounds) if b > a]
    group_of_variable = {variable_key(v): k for k, group in enumerate(groups) for v in group}
    split: list[list[int]] = [[] for _ in groups]
    for position, variable in enumerate(variables):
        number = group_of_variable.get(variable_key(variable))
        if number is None:
            split.append([position])
        else:
            split[number].append(position)
    return [group for group in split if group]


def variable_key(variable: Any) -> int:
    """Identifies a variable, whether given as Keras's or as TensorFlow's."""
    return id(getattr(variable, "value", variable) if hasattr(variable, "path") else variable)


def _check_compression(compression: Any) -> None:
    """Raises UserError for what Horovod does not compress with."""
    if compression is not None and not hasattr(compression, "decompress"):
        raise UserError(
            "`compression` must be horovod.tensorflow.Compression.none or .fp16, or None. "
            f"Received: compression={compression!r}."
        )


def _check_groups(groups: Any) -> None:
    """Raises UserError for groups that are neither a number nor lists of variables."""
    if groups is None or (isinstance(groups, int) and groups >= 1):
        return
    if not isinstance(groups, list | tuple) or not all(isinstance(g, list | tuple) for g in groups):
        raise UserError(
            "`groups` must be an integer of at least 1, a list of lists of variables, or None. "
            f"Received: groups={groups!r}."
        )
