"""The file of an encoder of a user's own, as a text that tests write where they need it."""

from pathlib import Path

TEXT = '''"""An encoder with a layer of its own."""

import keras
from keras import layers

from own_layers import Scale

MARKER = {marker!r}
open(MARKER, "a").close()  # So that tests see whether this was executed.


def build(units=3):
    ids = keras.Input((280,), dtype="int32")
    x = layers.GlobalMaxPooling1D()(layers.Embedding(257, units)(ids))
    return keras.Model(ids, Scale()(x), name="encoder")
'''
LAYERS = '''"""A layer that Keras has not."""

import keras


class Scale(keras.layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor
'''


def write_encoder(folder: Path) -> str:
    """Writes the files into `folder`; returns the function's name for `--model`."""
    text = TEXT.format(marker=str(folder / "executed"))
    (folder / "own_encoder.py").write_text(text)
    (folder / "own_layers.py").write_text(LAYERS)
    return f"{folder / 'own_encoder.py'}:build"
