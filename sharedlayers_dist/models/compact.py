"""Pair models that read what batches carry: character ids and 8-bit pixels.

A tweet is a (280, 256) binary matrix as an idea only: 72 thousand floats of which 280 are not
zero. Batches carry the 280 character ids, and the matrix is made in the graph.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.graph import (
    call_layer,
    calls_in_model,
    has_graph,
    layers_within,
    run_graph,
)
from sharedlayers_dist.models.pair import PairEncoder, find_encoder


def compact_view(model: keras.Model) -> keras.Model:
    """The same pair model, the same weights (the very variables), reading compact items.

    It takes `{"a": ..., "b": ...}`. What an item is follows from the input of `model`:

    ======================  ==============================  =====================================
    input of `model`        item in the batch               in the graph
    ======================  ==============================  =====================================
    (T, C), floats          (T,) ids in 0..C, any integers  id k is a one in column k - 1; 0 is a
                                                            row of zeros
    (H, W, C), floats       (H, W, C), uint8                divided by 255
    (H, W, C), floats       (H, W, C), any other integers   taken as they are
    any, floats             the same shape, any floats      taken as they are
    any, integers           the same shape, any integers    taken as they are
    ======================  ==============================  =====================================

    Both sides may take different items. Where that gives the same function, both go through the
    encoder in one call, as one batch of twice the size.

    The view has no weights of its own: training it trains `model`, and `model` is what to save.
    It comes uncompiled; compiled with `model.optimizer`, it also trains that optimizer's state.

    Args:
        model: A functional model with two inputs and one output, made here, by hand, or loaded
            from a file. Inputs named `a` and `b` are told apart by name, others by order.

    Raises:
        UserError: for a model that does not take pairs, or items of no known compact form.

    Example:
        >>> import numpy as np
        >>> from sharedlayers_dist.models import pair_classifier
        >>> encoder = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3)])
        >>> view = compact_view(pair_classifier(encoder))  # Reads ids where it takes matrices.
        >>> ids = np.array([[0, 0, 1, 4, 2, 2]])  # (1, 6): padding, and columns 0, 3, 1 and 1.
        >>> view({"a": ids, "b": ids}).shape
        TensorShape([1, 1])
    """
    return CompactView(model)


class CompactView(keras.Model):
    """What `compact_view` returns; see there."""

    def __init__(self, model: keras.Model):
        inputs = inputs_by_side(model)
        super().__init__(name=f"compact_{model.name}", dtype=model.dtype_policy)
        self.model = model
        self._input_of_side = inputs
        encoder = find_encoder(model)
        self._encoder_for_both = encoder if encoder and keeps_rows_apart(encoder.layer) else None
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Scores pairs of compact items, `{"a": (B, ...), "b": (B, ...)} -> (B, 1)`.

        Raises:
            UserError: for anything but such a dictionary, and for items of another form.
        """
        if not isinstance(inputs, dict) or not {"a", "b"} <= set(inputs):
            received = sorted(inputs) if isinstance(inputs, dict) else type(inputs).__name__
            raise UserError(
                'A compact view takes a dictionary {"a": ..., "b": ...}. Received: '
                f"inputs={received}."
            )
        values = {
            id(tensor): expand(inputs[side], tensor) for side, tensor in self._input_of_side.items()
        }
        if self._encoder_for_both is not None:
            values |= self._encode_in_one_call(self._encoder_for_both, values, training)
        return run_graph(self.model, values, training=training)

    def _encode_in_one_call(
        self, encoder: PairEncoder, values: dict[int, Any], training: bool | None
    ) -> dict[int, Any]:
        """The encodings of both sides, by `id` of the symbolic tensors they stand for."""
        first, second = (values[id(tensor)] for tensor in self.model.inputs)
        stacked = ops.concatenate([first, second], axis=0)
        encoded = call_layer(encoder.layer, (stacked,), {}, training=training)
        rows = ops.shape(first)[0]
        tensor_a, tensor_b = encoder.encoded
        return {id(tensor_a): encoded[:rows], id(tensor_b): encoded[rows:]}


def expand(items: Any, tensor: keras.KerasTensor) -> Any:
    """Makes what a model's input takes from compact items.

    Args:
        items: The items of one side, the batch first; `compact_view` says of which shape.
        tensor: The symbolic input of the model.

    Returns:
        A tensor of the shape and dtype of `tensor`.

    Raises:
        UserError: for items of another shape or dtype than the input's compact form.

    Example:
        >>> expand(ops.array([[0, 2]]), keras.Input((2, 3))).numpy().tolist()
        [[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
    """
    dtype = keras.backend.standardize_dtype(items.dtype)
    dimensions = len(tensor.shape)
    has_its_shape = len(items.shape) == dimensions
    if "int" in tensor.dtype:
        wanted = "integers of that shape"
        if has_its_shape and "float" not in dtype:
            return ops.cast(items, tensor.dtype)
    elif dimensions == 3:
        wanted = "integers (batch, length), or floats of that shape"
        if "int" in dtype and len(items.shape) == 2:
            # Ids may be unsigned, where 0 - 1 is not negative.
            columns = ops.cast(items, "int32") - 1
            return ops.one_hot(columns, tensor.shape[-1], dtype=tensor.dtype)
        if has_its_shape and "float" in dtype:
            return ops.cast(items, tensor.dtype)
    else:
        wanted = "images of that shape" if dimensions == 4 else "floats of that shape"
        if has_its_shape and (dimensions == 4 or "float" in dtype):
            values = ops.cast(items, tensor.dtype)
            return values / 255 if dtype == "uint8" else values
    raise UserError(
        f"Compact items for the input {tensor.name} of shape {tuple(tensor.shape)} must be "
        f"{wanted}. Received: shape={tuple(items.shape)}, dtype={dtype}."
    )


def keeps_rows_apart(encoder: keras.Layer) -> bool:
    """Whether encoding two batches in one call is sure to give what two calls give.

    It is not where rows of a batch look at each other (batch statistics), where a call changes
    the layer's state, or where the layer's code is not Keras's own and may do anything.

    Example:
        >>> keeps_rows_apart(keras.layers.LSTM(3))
        True
        >>> keeps_rows_apart(keras.layers.BatchNormalization())
        False
    """
    for layer in layers_within(encoder):
        if not type(layer).__module__.startswith("keras."):
            return False
        if isinstance(layer, _MIXING_LAYERS) or getattr(layer, "stateful", False):
            return False
        if layer.activity_regularizer is not None:
            return False
        # A bare operation, say a mean over axis 0, may mix rows as well.
        calls = calls_in_model(layer) if has_graph(layer) else []
        if not all(isinstance(call.layer, keras.Layer) for call in calls):
            return False
    return True


_MIXING_LAYERS = (
    keras.layers.BatchNormalization,
    keras.layers.SpectralNormalization,
    keras.layers.Lambda,
)


def inputs_by_side(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The symbolic inputs of a pair model for the items `a` and `b`.

    Inputs of these names are told apart by them, others by their order.

    Raises:
        UserError: for a model that does not take pairs, or items of no known compact form.

    Example:
        >>> from sharedlayers_dist.models import pair_classifier
        >>> encoder = keras.Sequential([keras.Input((6, 4)), keras.layers.LSTM(3)])
        >>> inputs_by_side(pair_classifier(encoder))["b"].shape
        (None, 6, 4)
    """
    if not has_graph(model) or len(model.inputs) != 2 or len(model.outputs) != 1:
        raise UserError(
            "A compact view needs a functional model with two inputs and one output. Received: "
            f"model={model!r}. Make one with `pair_classifier(encoder)`."
        )
    for tensor in model.inputs:
        is_number = "int" in tensor.dtype or "float" in tensor.dtype
        if not is_number or len(tensor.shape) < 2:
            raise UserError(
                "A compact view reads text (length, alphabet), images (height, width, channels), "
                "vectors (numbers) or integers. Received: the input "
                f"{tensor.name} of shape {tuple(tensor.shape)} and dtype {tensor.dtype}."
            )
    by_name = {tensor.name: tensor for tensor in model.inputs}
    if set(by_name) != {"a", "b"}:
        by_name = dict(zip("ab", model.inputs, strict=True))
    return by_name
