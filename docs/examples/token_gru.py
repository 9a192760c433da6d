"""A GRU in both directions on the ids of any tokenizer, from a column of lists; 0 is padding.

sharedlayers train --model docs/examples/token_gru.py:build --pairs tokens/train --output run \
  --model-options '{"vocabulary": 30522}' --optimizer adam
"""

import keras
from keras import layers


def build(length: int = 64, vocabulary: int = 1000, units: int = 32) -> keras.Model:
    """Encodes `(B, length)` ids as `(B, 2 * units)` numbers; the padding is masked."""
    ids = keras.Input((length,), dtype="int32", name="ids")
    embedded = layers.Embedding(vocabulary, 32, mask_zero=True)(ids)
    # Not layers.GRU(units): on a GPU it goes to cuDNN, which refuses masks of padding in front.
    encoded = layers.Bidirectional(layers.RNN(layers.GRUCell(units)))(embedded)
    return keras.Model(ids, encoded, name="token_gru")
