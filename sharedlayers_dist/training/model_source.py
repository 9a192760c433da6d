"""Where a run's model comes from: the zoo, or a function of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sharedlayers_dist import models
from sharedlayers_dist.config import ModelConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.user_code import UserCode, code_of_function, is_code, read_code


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What the process that starts a run gives of its model beside the options.

    Example:
        >>> options = ModelConfig(model="tweet_pair")
        >>> ModelSource().read(options) is None
        True
    """

    build: Callable[..., Any] | None = None
    """A function that is there already; None for the one that the options name."""
    code: UserCode | None = None
    """Its code, where that has been read elsewhere."""

    def read(self, options: ModelConfig) -> UserCode | None:
        """The code of the model's function; None for a model of the zoo. Nothing is executed.

        Raises:
            UserError: for a name or a file that is not there, or a model that is given twice.
        """
        if self.code is not None:
            return self.code
        if self.build is not None:
            if options.model != ModelConfig.model:
                raise UserError(
                    "The model is given once. Received: "
                    f"model={options.model!r} and build={self.build!r}. Leave one of them out."
                )
            return code_of_function(self.build)
        if is_code(options.model):
            return read_code(options.model)
        models.info(options.model)
        return None

    def load(self, code: UserCode | None) -> Callable[..., Any] | None:
        """The model's function; None for a model of the zoo.

        Args:
            code: What `read` gave, here or on rank zero.

        Raises:
            UserError: for a function that cannot be imported.
        """
        return code.load() if self.build is None and code is not None else self.build

    def is_recurrent(self, options: ModelConfig) -> bool:
        """Whether this is a model of the zoo that is a recurrent layer and little else.

        Example:
            >>> ModelSource().is_recurrent(ModelConfig(model="tweet_pair"))
            True
        """
        is_of_zoo = self.build is None and options.model in models.names()
        return is_of_zoo and models.info(options.model).is_recurrent
