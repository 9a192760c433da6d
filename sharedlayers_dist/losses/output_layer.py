"""Whether a model's last layer gives what a loss takes: no probabilities for distances."""

from __future__ import annotations

import keras

from sharedlayers_dist.errors import UserError

_PROBABILITIES = (
    keras.activations.sigmoid,
    keras.activations.hard_sigmoid,
    keras.activations.softmax,
)


def check_output_layer(loss: keras.losses.Loss, layer: keras.Layer) -> None:
    """Refuses a layer that gives probabilities, under a loss of distances or cosines.

    Such a model trains without a word, and learns little: a probability is large where a distance
    is small, and cannot leave [0, 1], so that pairs are never pushed beyond a margin of 1. Judged
    by the layer's activation alone; numbers say nothing, since distances may lie in [0, 1], too.

    Args:
        loss: Any loss; those of this package say in `takes` what they are of.
        layer: The layer that gives the model's output.

    Raises:
        UserError: if the layer ends in a sigmoid or a softmax, and the loss takes distances or
            cosines.

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
    takes = getattr(loss, "takes", None)
    activation = getattr(layer, "activation", None)
    if takes in ("distances", "cosines") and activation in _PROBABILITIES:
        raise UserError(
            f"A loss of {takes} cannot be of probabilities. Received: loss={loss.name}, and the "
            f"layer {layer.name}, which ends in a {activation.__name__}. Leave the activation out, "
            f"and give {takes}; or train the probabilities with binary_crossentropy."
        )
