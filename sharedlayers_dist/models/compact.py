"""Pair models that read what batches carry: character ids and 8-bit pixels.

A tweet is a (280, 256) binary matrix as an idea only: 72 thousand floats of which 280 are not
zero. Batches carry the 280 character ids, and the matrix is made in the graph.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from sharedlayers_dist.errors import UserError
from sharedlayers_dist.models.expanding import expand, require_compact
from sharedlayers_dist.models.graph import gives_output, has_graph, run_graph
from sharedlayers_dist.models.independence import draws_random_numbers, keeps_rows_apart
from sharedlayers_dist.models.item_encoder import ItemEncoder
from sharedlayers_dist.models.pair import find_encoder


def compact_view(model: keras.Model, *, fast_paths: bool = True) -> CompactView:
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
    encoder in one call, as one batch of twice the size. Where each row's encoding depends on that
    row alone, and nothing is random (`shares_items`), it also takes `{"items": (U, ...), "a": (B,),
    "b": (B,)}`: the different items, and the places of each pair's two among them.

    The view has no weights of its own: training it trains `model`, and `model` is what to save.
    It comes uncompiled; compiled with `model.optimizer`, it also trains that optimizer's state.

    Args:
        model: A functional model with two inputs and one output, made here, by hand, or loaded
            from a file. Inputs named `a` and `b` are told apart by name, others by order.
        fast_paths: False to call the encoder on each side as the model does, and nothing else.

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
    return CompactView(model, fast_paths=fast_paths)


class CompactView(keras.Model):
    """What `compact_view` returns; see there."""

    def __init__(self, model: keras.Model, *, fast_paths: bool = True):
        inputs = inputs_by_side(model)
        super().__init__(name=f"compact_{model.name}", dtype=model.dtype_policy)
        self.model = model
        self._input_of_side = inputs
        found = find_encoder(model) if fast_paths else None
        if found is not None and not keeps_rows_apart(found.layer):
            found = None
        self._encode = None if found is None else ItemEncoder(found, inputs["a"])
        self._needs_inputs = found is None or not gives_output(model, found.encoded)
        """Whether the graph makes more of the inputs than their encodings."""
        self.shares_items = (
            found is not None and not self._needs_inputs and not draws_random_numbers(found.layer)
        )
        """Whether it takes the different items of a batch, each once."""
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
        values = {}
        if self._needs_inputs:
            values = {
                id(tensor): expand(inputs[side], tensor)
                for side, tensor in self._input_of_side.items()
            }
        if self._encode is not None:
            values |= self._encode_both(self._encode, inputs, training)
        return run_graph(self.model, values, training=training)

    def _encode_both(
        self, encode: ItemEncoder, inputs: dict[str, Any], training: bool | None
    ) -> dict[int, Any]:
        """The encodings of both sides, by `id` of the symbolic tensors they stand for."""
        sides = self._sides_of_inputs(inputs)
        items = inputs["items"] if "items" in inputs else self._stack(sides)
        encoded = encode(items, training=training, is_compiled=self.jit_compile)
        if "items" in inputs:
            first, second = (ops.take(encoded, side, axis=0) for side in sides)
        else:
            rows = ops.shape(sides[0])[0]
            first, second = encoded[:rows], encoded[rows:]
        tensor_a, tensor_b = encode.encoded
        return {id(tensor_a): first, id(tensor_b): second}

    def _stack(self, sides: list[Any]) -> Any:
        """The items of both sides as one batch."""
        for side, tensor in zip(sides, self.model.inputs, strict=True):
            require_compact(side, tensor)
        if len({(len(side.shape), side.dtype) for side in sides}) > 1:
            sides = list(map(expand, sides, self.model.inputs))
        return ops.concatenate(sides, axis=0)

    def _sides_of_inputs(self, inputs: dict[str, Any]) -> list[Any]:
        """The items of the model's first and second input."""
        by_id = {id(tensor): inputs[side] for side, tensor in self._input_of_side.items()}
        return [by_id[id(tensor)] for tensor in self.model.inputs]


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
