"""Encoders to start from: functions that give functional Keras models, an item to a vector.

Each is made of Keras's own layers alone, so that a saved model opens in plain Keras without this
package, and so that the compact view may encode both sides of a batch in one call. None looks at
other items of its batch, so that training over any number of ranks is that of one process.
"""

from sharedlayers_dist.models.encoders.character_cnn import character_cnn
from sharedlayers_dist.models.encoders.character_gru import character_gru
from sharedlayers_dist.models.encoders.character_transformer import character_transformer
from sharedlayers_dist.models.encoders.residual_cnn import residual_cnn

__all__ = ["character_cnn", "character_gru", "character_transformer", "residual_cnn"]
