"""A finished run, opened to be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharedlayers_dist.data import DatasetIndex
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate.model_file import open_model
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
    """Takes what the model takes (binary matrices, pixels in [0, 1]); gives `(B, 1)`."""
    kind: str
    """What its items are: `text` or `image`."""
    alphabet: str
    """The characters of the matrix's columns; empty for images."""

    @classmethod
    def load(cls, run: str, *, trust_code: bool = False, model: str = "") -> TrainedRun:
        """Loads a finished run.

        Args:
            run: The run folder, a path or a URI.
            trust_code: As `open_model` takes it, and so is `model`.
            model: Where the code of the run's model lies.

        Raises:
            UserError: when it is no run folder, its training has not finished, or its model cannot
                be opened, or not without executing code, or is another run's.
        """
        folder = RunFolder(run)
        facts = folder.read_config()
        run_of = f"Received: run={str(folder)!r}"
        kind, alphabet = facts.get("kind"), facts.get("alphabet")
        if kind not in _RANKS_OF_KIND or not isinstance(alphabet, str):
            raise UserError(
                f"A run's config.json must say what its items are. {run_of}, where kind={kind!r} "
                f"and alphabet={alphabet!r}. Name the --output of a training run."
            )
        opened = open_model(folder, trust_code=trust_code, model=model)
        shapes = [tuple(tensor.shape) for tensor in opened.inputs]
        if len(shapes) != 2 or any(len(shape) not in _RANKS_OF_KIND[kind] for shape in shapes):
            raise UserError(
                f"A run's {MODEL} must be its own: one that takes pairs of {kind}. {run_of}, whose "
                f"{MODEL} has the input shapes {shapes}. Write it again with train --resume."
            )
        if [tuple(tensor.shape)[1:] for tensor in opened.outputs] != [(1,)]:
            raise UserError(
                f"A run's model must give one score for a pair. {run_of}, whose {MODEL} has the "
                f"output shape {opened.output_shape}."
            )
        return cls(folder=folder, model=opened, kind=kind, alphabet=alphabet)

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
