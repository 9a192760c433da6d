"""The shared encoder of a pair model, applied to what batches carry."""

from __future__ import annotations

from typing import Any

import keras

from sharedlayers_dist.models.expanding import expand
from sharedlayers_dist.models.graph import call_layer, run_graph
from sharedlayers_dist.models.pair import PairEncoder
from sharedlayers_dist.models.recurrent.finding import find_recurrent_start


class ItemEncoder:
    """Encodes compact items; see `compact_view` for what these are.

    An encoder that begins with a recurrent layer over one-hot rows runs it over each item's own
    steps alone, on CPUs: the same function, and the same gradients, to rounding.

    Args:
        found: The shared encoder.
        model_input: The pair model's input of either side.
        fast_paths: False to always call the layer as it is.
    """

    def __init__(
        self, found: PairEncoder, model_input: keras.KerasTensor, *, fast_paths: bool = True
    ) -> None:
        self.encoded = found.encoded
        """The symbolic encodings of the pair model's first and second input."""
        self._layer = found.layer
        self._input = model_input
        self._start = None
        is_one_hot = len(model_input.shape) == 3 and "float" in model_input.dtype
        if fast_paths and is_one_hot and _runs_on_cpus():
            self._start = find_recurrent_start(self._layer)
        if self._start is not None:
            from sharedlayers_dist.models.recurrent.running import RecurrentRunner

            self._runner = RecurrentRunner(self._start.math, is_masked=self._start.is_masked)

    def __call__(
        self, items: Any, *, training: bool | None, is_compiled: bool | None = False
    ) -> Any:
        """Encodes items, `(B, ...)` to what the encoder gives.

        Args:
            items: Compact items.
            training: Passed on to the layers.
            is_compiled: Whether XLA compiles all of the model, which has no place for programs
                within.
        """
        if self._start is None or is_compiled or not _are_ids(items):
            values = expand(items, self._input)
            return call_layer(self._layer, (values,), {}, training=training)
        outputs = self._runner(items, training=bool(training))
        if self._start.output is None:
            return outputs
        return run_graph(self._layer, {id(self._start.output): outputs}, training=training)


def _are_ids(items: Any) -> bool:
    """Whether items are ids that stand for one-hot rows, of a length that is known."""
    is_integer = "int" in keras.backend.standardize_dtype(items.dtype)
    return is_integer and len(items.shape) == 2 and items.shape[1] is not None


def _runs_on_cpus() -> bool:
    """Whether TensorFlow has no GPU, where a recurrent layer is cuDNN's."""
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")
