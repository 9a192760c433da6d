"""Whether a model's last layer gives what a loss takes: no probabilities for distances, say."""

from __future__ import annotations

import keras

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.losses.encodings import LEARNED
from sharedlayers_dist.losses.learned_temperature import LearnedTemperature

_PROBABILITIES = (
    keras.activations.sigmoid,
    keras.activations.hard_sigmoid,
    keras.activations.softmax,
)


def check_output_layer(loss: keras.losses.Loss, layer: keras.Layer) -> None:
    """Refuses a layer that gives something else than the loss takes.

    Under a loss of distances or cosines it may not give probabilities. Such a model trains without
    a word, and learns little: a probability is large where a distance is small, and cannot leave
    [0, 1], so that pairs are never pushed beyond a margin of 1. Judged by the layer's activation
    alone; numbers say nothing, since distances may lie in [0, 1], too.

    A loss with `temperature="learned"` takes what `LearnedTemperature` gives, and nothing else
    does: without the layer there is no temperature, and with it a fixed one would come on top of it
    or, where encodings are scaled to length 1, the layer would learn nothing.

    Args:
        loss: Any loss; those of this package say in `takes` what they are of.
        layer: The layer that gives the model's output.

    Raises:
        UserError: if the layer ends in a sigmoid or a softmax, and the loss takes distances or
            cosines; if the loss's temperature is learned and the layer is another than
            `LearnedTemperature`, or the other way round.

    Source: https://github.com/keras-team/keras-io/issues/2230, where Keras's own example did this.

    Example:
        >>> from sharedlayers_dist.losses import Contrastive
        >>> check_output_layer(Contrastive(), keras.layers.Dense(1))
        >>> try:
        ...     check_output_layer(Contrastive(), keras.layers.Dense(1, "sigmoid", name="score"))
        ... except UserError as error:
        ...     print(str(error)[:47])
        A loss of distances cannot be of probabilities.
    """
    _check_temperature(loss, layer)
    takes = getattr(loss, "takes", None)
    activation = getattr(layer, "activation", None)
    if takes in ("distances", "cosines") and activation in _PROBABILITIES:
        raise UserError(
            f"A loss of {takes} cannot be of probabilities. Received: loss={loss.name}, and the "
            f"layer {layer.name}, which ends in a {activation.__name__}. Leave the activation out, "
            f"and give {takes}; or train the probabilities with binary_crossentropy."
        )


def _check_temperature(loss: keras.losses.Loss, layer: keras.Layer) -> None:
    is_asked_for = getattr(loss, "temperature", None) == LEARNED
    is_there = isinstance(layer, LearnedTemperature)
    if is_asked_for and not is_there:
        raise UserError(
            "A learned temperature is the weight of a model whose last layer is "
            f"LearnedTemperature. Received: loss={loss.name}, and the layer {layer.name}, a "
            f"{type(layer).__name__}. Put `losses.LearnedTemperature()` last, or give the loss a "
            "number as its temperature."
        )
    if is_there and not is_asked_for:
        raise UserError(
            f"The layer LearnedTemperature is for losses with temperature={LEARNED!r} alone. "
            f"Received: loss={loss.name}, and the layer {layer.name}. Leave the layer out, or take "
            f"InBatchNegatives, SupervisedContrastive or SigmoidPairs with temperature={LEARNED!r}."
        )
