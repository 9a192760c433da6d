"""A finished run, opened to be used."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from sharedlayers_dist.data import DatasetIndex
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets
from sharedlayers_dist.training.run_folder import MODEL, RunFolder

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished run: its model, and what reading pairs for it takes.

    Example:
        >>> TrainedRun.load("runs/none")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        sharedlayers_dist.errors.UserError: A run folder holds a config.json. Received: ...
    """

    folder: RunFolder
    model: keras.Model
    """Takes the notebook's inputs: binary matrices, or pixels in [0, 1]; gives `(B, 1)`."""
    kind: str
    """What its items are: `text` or `image`."""
    alphabet: str
    """The characters of the matrix's columns; empty for images."""

    @classmethod
    def load(cls, run: str) -> TrainedRun:
        """Loads the run folder `run`, a path or a URI.

        Raises:
            UserError: when it is no run folder, its training has not finished, or its model cannot
                be opened or is another run's.
        """
        folder = RunFolder(run)
        facts = folder.read_config()
        try:
            content = folder.files.read(MODEL)
        except FileNotFoundError:
            raise UserError(
                "Only a finished run can be used. Received: "
                f"run={str(folder)!r}, which has no {MODEL}. Finish it with train --resume."
            ) from None
        run_of = f"Received: run={str(folder)!r}"
        kind, alphabet = facts.get("kind"), facts.get("alphabet")
        if kind not in _RANKS_OF_KIND or not isinstance(alphabet, str):
            raise UserError(
                f"A run's config.json must say what its items are. {run_of}, where kind={kind!r} "
                f"and alphabet={alphabet!r}. Name the --output of a training run."
            )
        model = _open_model(content, run_of)
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        if len(shapes) != 2 or any(len(shape) not in _RANKS_OF_KIND[kind] for shape in shapes):
            raise UserError(
                f"A run's {MODEL} must be its own: one that takes pairs of {kind}. {run_of}, whose "
                f"{MODEL} has the input shapes {shapes}. Write it again with train --resume."
            )
        if [tuple(tensor.shape)[1:] for tensor in model.outputs] != [(1,)]:
            raise UserError(
                f"A run's model must give one score for a pair. {run_of}, whose {MODEL} has the "
                f"output shape {model.output_shape}."
            )
        return cls(folder=folder, model=model, kind=kind, alphabet=alphabet)

    def require_items(self, index: DatasetIndex) -> None:
        """Makes sure that the model can take the items of a dataset.

        Raises:
            UserError: for items of another kind, or images of another shape.
        """
        if index.kind != self.kind:
            raise UserError(
                f"A run scores pairs of the kind it was trained on. Received: {index.kind} pairs "
                f"in {hide_secrets(index.uri)}, a run on {self.kind} pairs in {self.folder}."
            )
        if index.kind == "image":
            wanted = tuple(self.model.inputs[0].shape)[1:]
            shape = index.item_shape
            if len(shape) != len(wanted) or any(
                size not in (None, given) for size, given in zip(wanted, shape, strict=True)
            ):
                raise UserError(
                    f"The run {self.folder} takes images of the shape {wanted}. Received: {shape} "
                    f"in {hide_secrets(index.uri)}."
                )


_RANKS_OF_KIND = {"text": (2, 3), "image": (4,)}
"""Dimensions of a model's inputs, the batch included: ids or matrices of characters, images."""


def _open_model(content: bytes, run_of: str) -> keras.Model:
    import keras

    with tempfile.NamedTemporaryFile(suffix=f"-{MODEL}") as file:
        file.write(content)
        file.flush()
        try:
            return keras.models.load_model(file.name, compile=False)
        except (ValueError, TypeError, OSError, KeyError, BadZipFile) as error:
            raise UserError(
                f"A run's {MODEL} must be whole. {run_of}, whose {MODEL} ({len(content)} bytes) "
                "Keras cannot open. Write it again with train --resume."
            ) from error
