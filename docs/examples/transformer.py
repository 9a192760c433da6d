"""--model docs/examples/transformer.py:build: with a layer, a schedule and a loss of its own."""

from typing import Any

import keras
from keras import layers, ops

from sharedlayers_dist.models import pair_classifier


@keras.saving.register_keras_serializable(package="examples")
class MaskedMean(layers.Layer):
    """The mean over the places that a mask leaves, `(B, T, D) -> (B, D)`."""

    def call(self, x: Any, mask: Any = None) -> Any:
        """Weighs all places that are left alike."""
        kept = ops.cast(mask, x.dtype)[..., None]
        return ops.sum(x * kept, axis=1) / ops.maximum(ops.sum(kept, axis=1), 1)

    def compute_mask(self, x: Any, mask: Any = None) -> None:
        """Leaves no mask: there are no places any more."""


def smoothed(label: Any, score: Any) -> Any:
    """Cross-entropy of labels that are not quite sure, one value a pair."""
    return keras.losses.binary_crossentropy(label, score, label_smoothing=0.05)


def build(length: int = 140, alphabet: int = 96, width: int = 32, steps: int = 999) -> keras.Model:
    """Scores pairs of texts, `(B, length)` ids each, by the cosine of their encodings."""
    ids = keras.Input((length,), dtype="int32", name="ids")
    x = layers.Embedding(alphabet + 1, width, mask_zero=True)(ids)
    x = layers.Add()([x, layers.MultiHeadAttention(2, width // 2, use_bias=False)(x, x)])
    encoded = MaskedMean()(layers.LayerNormalization()(x))
    model = pair_classifier(keras.Model(ids, encoded, name="encoder"), "scaled_cosine")
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=0.003, warmup_steps=20)
    model.compile(keras.optimizers.AdamW(rate), smoothed, weighted_metrics=["accuracy"])
    return model
