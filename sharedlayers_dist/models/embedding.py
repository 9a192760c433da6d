"""How many rows the table has in which a model looks up its input's integers."""

from __future__ import annotations

import keras

from sharedlayers_dist.models.graph import calls_in_model, has_graph, tensors_for_inputs


def find_table_size(model: keras.Model, tensor: keras.KerasTensor) -> int | None:
    """The rows of the smallest table in which an input is looked up as it is.

    That is the `input_dim` of an `Embedding` which is called on the input itself, in the model or
    in a model within it. An id of as much or more has no row: some devices give an error for it,
    and others give zeros.

    Args:
        model: A functional model.
        tensor: One of its symbolic inputs.

    Returns:
        None where no such layer is found: what other layers do with an integer is their own.

    Raises:
        UserError: for a model that is not functional.

    Example:
        >>> ids = keras.Input((5,), dtype="int32")
        >>> model = keras.Model(ids, keras.layers.Embedding(100, 8)(ids))
        >>> find_table_size(model, ids)
        100
    """
    sizes: list[int] = []
    for call in calls_in_model(model):
        if all(value is not tensor for value in call.inputs):
            continue
        if isinstance(call.layer, keras.layers.Embedding):
            # A layer of one's own may make other ids of them first.
            if type(call.layer).call is keras.layers.Embedding.call:
                sizes.append(call.layer.input_dim)
        elif isinstance(call.layer, keras.Layer) and _runs_its_graph(call.layer):
            found = (
                find_table_size(call.layer, inner)
                for inner, value in zip(call.layer.inputs, tensors_for_inputs(call), strict=False)
                if value is tensor
            )
            sizes += [size for size in found if size is not None]
    return min(sizes, default=None)


def _runs_its_graph(layer: keras.Layer) -> bool:
    """Whether a call of a model within a model is what its graph says, and no code of one's own."""
    return has_graph(layer) and type(layer).__module__.startswith("keras.")
