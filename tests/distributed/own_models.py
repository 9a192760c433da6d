"""Models of a user's own, one for each kind of layer that a run must carry; texts as ids.

There is no bias where it changes nothing (before a normalization, say): its gradient is rounding.
"""

import keras
from keras import layers, ops

from sharedlayers_dist import dist
from sharedlayers_dist.models import pair_classifier

ALPHABET = 41
LENGTH = 24


@keras.saving.register_keras_serializable(package="tests")
class AttentionPooling(layers.Layer):
    """Weighs the characters of a text, `(B, T, D) -> (B, D)`; those that a mask names count 0."""

    def __init__(self, **options):
        super().__init__(**options)
        self.score = layers.Dense(1, use_bias=False)
        self.supports_masking = True

    def build(self, shape):
        self.score.build(shape)

    def call(self, x, mask=None):
        logits = self.score(x)
        if mask is not None:
            logits = ops.where(mask[..., None], logits, -1e9)
        return ops.sum(ops.softmax(logits, axis=1) * x, axis=1)

    def compute_mask(self, x, mask=None):
        return None

    def compute_output_shape(self, shape):
        return (shape[0], shape[-1])


def soft_crossentropy(label, score):
    return keras.losses.binary_crossentropy(label, score, label_smoothing=0.1)


def ids(name: str = "ids") -> keras.KerasTensor:
    return keras.Input((LENGTH,), dtype="int32", name=name)


def embed(text: keras.KerasTensor, *, mask: bool = False) -> keras.KerasTensor:
    return layers.Embedding(ALPHABET, 6, mask_zero=mask)(text)


def encoder(text: keras.KerasTensor, encoded: keras.KerasTensor) -> keras.Model:
    return keras.Model(text, encoded, name="encoder")


def char_cnn(units: int = 5) -> keras.Model:
    text = ids()
    x = layers.Conv1D(units, 3, activation="relu")(embed(text))
    pooled = [layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)]
    return encoder(text, layers.Concatenate()(pooled))


def masked_bidirectional() -> keras.Model:
    text = ids()
    return encoder(text, layers.Bidirectional(layers.GRU(4))(embed(text, mask=True)))


def attention() -> keras.Model:
    """Compiled, with a layer, a loss and a metric's name of one's own, and a schedule."""
    text = ids()
    x = embed(text, mask=True)
    attended = layers.MultiHeadAttention(2, 3, use_bias=False)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    model = pair_classifier(encoder(text, AttentionPooling()(x)), "cosine")
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 10)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01),
        loss=soft_crossentropy,
        metrics=[keras.metrics.Precision(name="precision")],
    )
    return model


def synchronized_norm() -> keras.Model:
    text = ids()
    x = layers.Conv1D(5, 3, use_bias=False)(embed(text))
    x = dist.SyncBatchNormalization()(x)
    return encoder(text, layers.GlobalMaxPooling1D()(layers.ReLU()(x)))


def plain_norm() -> keras.Model:
    text = ids()
    x = layers.Conv1D(5, 3, use_bias=False)(embed(text))
    x = layers.BatchNormalization(name="norm")(x)
    return encoder(text, layers.GlobalMaxPooling1D()(x))


def frozen() -> keras.Model:
    text = ids()
    embedding = layers.Embedding(ALPHABET, 6)
    embedding.trainable = False
    return encoder(text, layers.LSTM(4)(embedding(text)))


def used_twice() -> keras.Model:
    """One convolution on the characters and on what it has made of them."""
    text = ids()
    conv = layers.Conv1D(6, 3, padding="same", activation="tanh")
    once = conv(embed(text))
    pool = layers.GlobalMaxPooling1D()
    return encoder(text, layers.Concatenate()([pool(once), pool(conv(once))]))


def regularized() -> keras.Model:
    text = ids()
    conv = layers.Conv1D(5, 3, kernel_regularizer=keras.regularizers.L2(0.1))
    return encoder(text, layers.GlobalMaxPooling1D()(conv(embed(text))))


def two_towers() -> keras.Model:
    """An encoder for each side, neither of them shared."""
    a, b = ids("a"), ids("b")
    x = layers.LSTM(4)(embed(a))
    y = layers.GlobalMaxPooling1D()(layers.Conv1D(4, 3)(embed(b)))
    score = layers.Dense(1, activation="sigmoid")(layers.Concatenate()([x, y, x * y]))
    return keras.Model([a, b], score, name="two_towers")


EXACT = (
    char_cnn,
    masked_bidirectional,
    attention,
    synchronized_norm,
    frozen,
    used_twice,
    regularized,
    two_towers,
)
