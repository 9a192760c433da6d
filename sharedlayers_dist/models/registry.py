"""The models by name. Names and descriptions need no Keras; building one does."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.keras_settings import require_usable_settings

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """What there is to know of a model before it is built.

    Example:
        >>> ModelInfo(name="mine", description="Two texts.", kind="text").image_shape is None
        True
    """

    name: str
    description: str
    kind: Literal["text", "image"] | None
    """The kind of items a pair model compares; None for a model that takes no pairs."""
    image_shape: tuple[int, ...] | None = None
    """The shape `(height, width, channels)` of one item of a model that compares images; None for
    a model that takes images of any height and width."""
    encoder: str = ""
    """The function of `models.encoders` that a pair model is made of; empty for the notebook's."""
    head: str = "concatenation"
    """How a pair model compares its sides unless it is told otherwise."""
    is_recurrent: bool = False
    """Whether its encoder is a recurrent layer over one-hot rows, and little else."""
    start_here: bool = False
    """Whether to start from it, of the models that compare this kind of items."""


_MODELS = {
    info.name: info
    for info in (
        ModelInfo(
            name="tweet_pair",
            description="Two tweets through one shared LSTM: do they have the same author?",
            kind="text",
            is_recurrent=True,
        ),
        ModelInfo(
            name="digit_pair",
            description="Two images through one shared vision model: do they show the same digit?",
            kind="image",
            image_shape=(27, 27, 1),
        ),
        ModelInfo(
            name="shared_conv",
            description="One convolution shared by images of two sizes.",
            kind=None,
        ),
        ModelInfo(
            name="inception",
            description="Three convolution towers on one image, concatenated.",
            kind=None,
        ),
        ModelInfo(
            name="residual",
            description="A convolution added to its own input.",
            kind=None,
        ),
        ModelInfo(
            name="character_cnn_pair",
            description="Two texts through convolutions of several widths over their characters.",
            kind="text",
            encoder="character_cnn",
            head="scaled_cosine",
            start_here=True,
        ),
        ModelInfo(
            name="character_gru_pair",
            description="Two texts through a GRU in both directions, pooled by attention.",
            kind="text",
            encoder="character_gru",
            head="scaled_cosine",
        ),
        ModelInfo(
            name="character_transformer_pair",
            description="Two texts through a small transformer over patches of characters.",
            kind="text",
            encoder="character_transformer",
            head="scaled_cosine",
        ),
        ModelInfo(
            name="residual_cnn_pair",
            description="Two images, of 8x8 to 64x64, through residual convolutions.",
            kind="image",
            encoder="residual_cnn",
            head="scaled_cosine",
            start_here=True,
        ),
    )
}


def names() -> tuple[str, ...]:
    """The names that `build` takes.

    Example:
        >>> names()[:3]
        ('tweet_pair', 'digit_pair', 'shared_conv')
    """
    return tuple(_MODELS)


def info(name: str) -> ModelInfo:
    """What there is to know of the model `name` before it is built.

    Raises:
        UserError: for an unknown name.

    Example:
        >>> info("digit_pair").image_shape
        (27, 27, 1)
    """
    if name not in _MODELS:
        raise UserError(
            f"There is no model of this name. Received: name={name!r}. "
            f"The models are {', '.join(_MODELS)}."
        )
    return _MODELS[name]


def build(name: str, **options: Any) -> keras.Model:
    """Builds a model of the zoo with new weights, drawn with Keras's global seed.

    Args:
        name: One of `names()`.
        **options: `head` for all pair models (see `pair_classifier`); for those made of an encoder
            also the options of that function of `models.encoders`; `axis` for `inception`.

    Returns:
        The notebook's pair models compiled as there, the others uncompiled.

    Raises:
        UserError: for an unknown name, option or value, and for a setting of Keras under which the
            models are not those that are described here (another backend, channels first).

    Example:
        >>> build("tweet_pair", head="absolute_difference").count_params()
        82241
    """
    require_usable_settings()
    model = info(name)
    if not model.encoder:
        builder = getattr(import_module("sharedlayers_dist.models.zoo"), name)
        _require_options(name, options, inspect.signature(builder).parameters)
        return builder(**options)
    encoder = getattr(import_module("sharedlayers_dist.models.encoders"), model.encoder)
    _require_options(name, options, ["head", *inspect.signature(encoder).parameters])
    head = options.pop("head", model.head)
    pair = import_module("sharedlayers_dist.models.pair")
    return pair.pair_classifier(encoder(**options), head, name=name)


def _require_options(name: str, options: Mapping[str, Any], available: Collection[str]) -> None:
    unknown = [option for option in options if option not in available]
    if unknown:
        has = f"Its options are {', '.join(available)}" if available else "It has no options"
        received = ", ".join(f"{option}={options[option]!r}" for option in unknown)
        raise UserError(f"The model {name} has no such option. Received: {received}. {has}.")
