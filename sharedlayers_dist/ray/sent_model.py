"""A model's function on its way from the driver to workers that do not have its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ray import cloudpickle

from sharedlayers_dist.training.model_source import ModelSource
from sharedlayers_dist.user_code import UserCode


class SentModel(NamedTuple):
    """What the workers are sent of a model of one's own; nothing of a model of the zoo."""

    code: UserCode | None
    pickled: bytes
    """The function itself, where it cannot be imported: it stands in a script or a notebook."""

    @classmethod
    def pack(cls, build: Callable[..., Any] | None, code: UserCode | None) -> SentModel:
        """Makes it ready to be sent."""
        is_by_value = build is not None and code is not None and not code.is_importable
        return cls(code, cloudpickle.dumps(build) if is_by_value else b"")

    def unpack(self) -> ModelSource:
        """What the model is built from, in a worker."""
        if not self.pickled or self.code is None:
            return ModelSource(code=self.code)
        self.code.install()
        return ModelSource(build=cloudpickle.loads(self.pickled), code=self.code)
