"""The pair model of a run: made by name or by a function of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import keras

from sharedlayers_dist import dist, models
from sharedlayers_dist.config import ModelConfig
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.graph import calls_in_model, has_graph, layers_within

BuildModel = Callable[..., Any]
"""Returns an encoder or a pair model; takes the model options as keywords."""
HEAD_OF_OWN_ENCODER = "scaled_cosine"


@dataclass(frozen=True, kw_only=True)
class PairModel:
    """A pair model as it was built, with what its function has compiled, if it has."""

    plain: keras.Model
    """Takes what the model takes (matrices, pixels); what a run leaves behind."""
    compiled: keras.Model | None
    """The model that brings optimizer, loss and metrics; None where the options say them."""


def build_pair_model(config: ModelConfig, build: BuildModel | None = None) -> PairModel:
    """Builds the model that `config` names, its weights drawn from Keras's seed.

    Args:
        config: The model's options.
        build: A function of one's own that returns an encoder (one input) or a pair model (two
            inputs, one score); None for a model of the zoo.

    Raises:
        UserError: for a name, an option or a function that gives no pair model.
    """
    with _precision(config.precision):
        if build is None:
            return PairModel(plain=_build_by_name(config), compiled=None)
        made = _call(build, config)
        compiled = made if isinstance(made, keras.Model) and made.compiled else None
        if isinstance(made, keras.Model) and has_graph(made) and len(made.inputs) == 2:
            if config.head != "auto":
                raise UserError(
                    "A pair model has its own head. Received: "
                    f"head={config.head!r}, for a function that returns a model with two inputs. "
                    "Leave it out, or return the encoder alone."
                )
            plain = made
        else:
            head = HEAD_OF_OWN_ENCODER if config.head == "auto" else config.head
            plain = models.pair_classifier(made, head)
    _require_score(plain)
    return PairModel(plain=plain, compiled=compiled)


def _require_score(model: keras.Model) -> None:
    """Raises UserError for a model whose output is no probability for each pair."""
    shapes = [tuple(tensor.shape)[1:] for tensor in model.outputs]
    if shapes != [(1,)]:
        raise UserError(
            "A pair model gives one score for a pair, shape (batch, 1). Received: a model "
            f"{model.name!r} with the output shapes {shapes}. End it with Dense(1, "
            'activation="sigmoid").'
        )
    if "float16" in (dtype := model.outputs[0].dtype):
        raise UserError(
            "A score has 32 bits: many of those of 16 are equal. Received: a model "
            f'{model.name!r} that gives {dtype}. Make its last layer with dtype="float32".'
        )
    (last,) = (
        call
        for call in calls_in_model(model)
        if any(tensor is model.outputs[0] for tensor in call.outputs)
    )
    if getattr(last.layer, "activation", None) is keras.activations.linear:
        raise UserError(
            "A score is a probability that both items belong together, between 0 and 1. Received: "
            f"a model {model.name!r} whose last layer {last.layer.name!r} has the activation "
            "'linear'. Give it a sigmoid, and the loss from_logits=False."
        )


def _build_by_name(config: ModelConfig) -> keras.Model:
    info = models.info(config.model)
    if info.kind is None:
        pair_models = [name for name in models.names() if models.info(name).kind is not None]
        raise UserError(
            f"`model` must compare two items. Received: model={config.model!r}. Such models are "
            f"{', '.join(pair_models)}, and what a function of one's own returns: "
            "path/to/file.py:function."
        )
    options = dict(config.model_options)
    if config.head != "auto":
        if "head" in options:
            raise UserError(
                "The head is given once. Received: "
                f"head={config.head!r}, model_options={options}. Leave one of them out."
            )
        options["head"] = config.head
    return models.build(config.model, **options)


def _call(build: BuildModel, config: ModelConfig) -> Any:
    """What a function of one's own returns for the model options."""
    try:
        signature(build).bind(**config.model_options)
    except TypeError as error:
        raise UserError(
            "`model_options` must be keywords of the model's function. Received: "
            f"model_options={dict(config.model_options)} ({error})."
        ) from error
    made = build(**config.model_options)
    if not isinstance(made, keras.Layer):
        raise UserError(
            "A model's function returns a Keras model: an encoder with one input, or a pair model "
            f"with two. Received: {made!r}."
        )
    return made


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Layers that are made within compute as `policy` says."""
    before = keras.config.dtype_policy()
    if policy != "auto":
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def describe_inexact_layers(model: keras.Model) -> list[str]:
    """What of a model depends on how a batch is shared out over the ranks, a line a kind."""
    layers = layers_within(model)
    lines = []
    norms = [x.name for x in layers if _takes_batch_statistics(x)]
    if norms:
        lines.append(
            f"{', '.join(norms)}: batch normalization by the statistics of each rank's own pairs, "
            "which another number of ranks changes. sharedlayers_dist.dist.SyncBatchNormalization "
            "takes those of the global batch; GroupNormalization and LayerNormalization need none."
        )
    regularized = [x.name for x in layers if x.activity_regularizer is not None]
    if regularized:
        lines.append(
            f"{', '.join(regularized)}: an activity regularizer adds up over each rank's own "
            "pairs, so another number of ranks changes its weight. Regularize weights, or add the "
            "penalty to a loss that is a mean over pairs."
        )
    return lines


def _takes_batch_statistics(layer: keras.Layer) -> bool:
    is_sync = type(layer) is dist.SyncBatchNormalization
    return isinstance(layer, keras.layers.BatchNormalization) and not is_sync and layer.trainable
