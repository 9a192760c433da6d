"""A character CNN on texts, whose ids say what each character is; 0 is padding.

sharedlayers train --model docs/examples/character_cnn.py:build --pairs pairs/train --output run \
  --optimizer adamw --learning-rate 0.002
"""

import keras
from keras import layers


def build(length: int = 140, alphabet: int = 96, width: int = 64) -> keras.Model:
    """Encodes `(B, length)` ids as `(B, 4 * width)` numbers: what each of two widths has found."""
    ids = keras.Input((length,), dtype="int32", name="ids")
    embedded = layers.Embedding(alphabet + 1, 32)(ids)
    pooled = []
    for size in (3, 5):
        found = layers.Conv1D(width, size, padding="same", activation="relu")(embedded)
        pooled += [layers.GlobalMaxPooling1D()(found), layers.GlobalAveragePooling1D()(found)]
    return keras.Model(ids, layers.Concatenate()(pooled), name="character_cnn")
