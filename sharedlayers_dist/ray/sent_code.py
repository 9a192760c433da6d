"""Functions of a user's own on their way from the driver to workers that lack their files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ray import cloudpickle

from sharedlayers_dist.config import ModelConfig, TrainConfig
from sharedlayers_dist.training.model_source import ModelSource
from sharedlayers_dist.user_code import UserCode, read_code


class SentCode(NamedTuple):
    """What the workers are sent of a user's own functions; nothing of a model of the zoo."""

    model: UserCode | None
    """The code of the function that makes the model."""
    pickled_model: bytes
    """That function itself, where it cannot be imported: it stands in a script or a notebook."""
    callbacks: UserCode | None
    """The code of the function that the option `callbacks` names."""

    @classmethod
    def read(cls, config: TrainConfig, build: Callable[..., Any] | None) -> SentCode:
        """Reads in the driver what is to be sent.

        Args:
            config: The run's options.
            build: Makes the model; None for the one that the options name.

        Raises:
            UserError: for a name or a file that is not there, or a model that is given twice.
        """
        model = ModelSource(build=build).read(config.group(ModelConfig))
        is_by_value = build is not None and model is not None and not model.is_importable
        return cls(
            model=model,
            pickled_model=cloudpickle.dumps(build) if is_by_value else b"",
            callbacks=read_code(config.callbacks) if config.callbacks else None,
        )

    def unpack_model(self) -> ModelSource:
        """What the model is built from, in a worker."""
        if not self.pickled_model or self.model is None:
            return ModelSource(code=self.model)
        self.model.install()
        return ModelSource(build=cloudpickle.loads(self.pickled_model), code=self.model)
