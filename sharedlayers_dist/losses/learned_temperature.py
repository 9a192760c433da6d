"""A temperature that is learned: a weight of the model, in the lengths of its encodings."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.losses.checks import require_above_zero
from sharedlayers_dist.losses.encodings import normalize
from sharedlayers_dist.losses.precision import loss_dtype

_GREATEST_SCALE = 100.0


@keras.saving.register_keras_serializable(package="sharedlayers_dist")
class LearnedTemperature(keras.layers.Layer):
    """Scales encodings so that their dot products are cosines divided by a learned temperature.

    Each encoding is scaled to length 1, and then multiplied by `sqrt(scale)`, where `scale` is
    1 / temperature. The layer's one weight is the logarithm of the scale. After each step it is
    held to a scale of 100 at most.

    It is for a loss with `temperature="learned"`, as the model's last layer: losses hold no
    weights, and this one is then trained, stored and restored as any other of the model. For pairs
    it comes after both sides were stacked, so that there is one temperature. Where only the
    direction of encodings counts, as in a search by cosines, the layer changes nothing.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision
    (2021), section 2.5, which begins at 0.07, and bounds the scale in the same way.

    Args:
        initial: The temperature to begin with, 0.01 at least.
        **options: Keras's own, as `name`.

    Call arguments:
        inputs: Encodings, shape (..., features).

    Raises:
        UserError: for a temperature out of its range.

    Example:
        >>> layer = LearnedTemperature(initial=0.05)
        >>> round(float(layer(ops.array([[0.0, 3.0]]))[0, 1]), 4)  # The root of 20.
        4.4721
        >>> from sharedlayers_dist.losses import InBatchNegatives
        >>> a, b = keras.Input((8,)), keras.Input((8,))
        >>> encode = keras.layers.Dense(4)
        >>> both = keras.ops.stack([encode(a), encode(b)], axis=1)
        >>> model = keras.Model([a, b], LearnedTemperature()(both))
        >>> model.compile("adam", loss=InBatchNegatives(temperature="learned"))
    """

    def __init__(self, initial: float = 0.05, **options: Any) -> None:
        require_above_zero(initial=initial)
        if initial < 1 / _GREATEST_SCALE:
            raise UserError(
                f"`initial` must be at least {1 / _GREATEST_SCALE}, as the scale, 1 / temperature, "
                f"stays at {_GREATEST_SCALE:.0f} at most. Received: initial={initial!r}."
            )
        super().__init__(**options)
        self.initial = float(initial)

    def build(self, input_shape: Any) -> None:
        """Makes the weight; it is not cast to 16 bits, which would be too coarse for it."""
        self.log_scale = self.add_weight(
            name="log_scale",
            shape=(),
            initializer=keras.initializers.Constant(-math.log(self.initial)),
            constraint=_bound,
            autocast=False,
        )

    def call(self, inputs: Any) -> Any:
        """Returns the scaled encodings, in the shape and the dtype of `inputs`."""
        directions = normalize(ops.cast(inputs, loss_dtype()))
        scale = ops.exp(0.5 * ops.cast(self.log_scale, directions.dtype))
        return ops.cast(directions * scale, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal layer."""
        return {**super().get_config(), "initial": self.initial}


def _bound(log_scale: Any) -> Any:
    """Optimizers do this to the weight after a step; a bound in `call` would end its gradient."""
    return ops.minimum(log_scale, math.log(_GREATEST_SCALE))
