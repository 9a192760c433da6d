"""A finished run, opened to be used."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sharedlayers_dist.data import DatasetIndex, PairCodecs, SequenceOptions, choose_codecs
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate.model_file import open_model
from sharedlayers_dist.storage.uri import hide_secrets
from sharedlayers_dist.training.data_sources import inputs_of
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
    """What its pairs are of: `text`, say, or `text and image`."""
    alphabet: str
    """The characters that have ids; empty where no side is text."""
    options: SequenceOptions
    """How its texts and lists of tokens become rows of one length."""

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
        kinds = str(kind).split(" and ")  # Of both sides, or of either.
        if not set(kinds) <= set(_RANKS_OF_KIND) or not isinstance(alphabet, str):
            raise UserError(
                f"A run's config.json must say what its items are. {run_of}, where kind={kind!r} "
                f"and alphabet={alphabet!r}. Name the --output of a training run."
            )
        opened = open_model(folder, trust_code=trust_code, model=model)
        shapes = [tuple(tensor.shape) for tensor in opened.inputs]
        ranks = {rank for kind in kinds for rank in _RANKS_OF_KIND[kind]}
        if len(shapes) != 2 or any(len(shape) not in ranks for shape in shapes):
            raise UserError(
                f"A run's {MODEL} must be its own: one that takes pairs of {kind}. {run_of}, whose "
                f"{MODEL} has the input shapes {shapes}. Write it again with train --resume."
            )
        if [tuple(tensor.shape)[1:] for tensor in opened.outputs] != [(1,)]:
            raise UserError(
                f"A run's model must give one score for a pair. {run_of}, whose {MODEL} has the "
                f"output shape {opened.output_shape}."
            )
        options = {field.name: facts[field.name] for field in _OPTIONS if field.name in facts}
        return cls(
            folder=folder,
            model=opened,
            kind=" and ".join(kinds),
            alphabet=alphabet,
            options=SequenceOptions(**options),
        )

    def choose_codecs(self, index: DatasetIndex) -> PairCodecs:
        """How the items of a dataset become what the model takes.

        Raises:
            UserError: for items of another kind, or that the model cannot take.
        """
        if index.kind != self.kind:
            raise UserError(
                f"A run scores pairs of the kind it was trained on. Received: {index.kind} pairs "
                f"in {hide_secrets(index.uri)}, a run on {self.kind} pairs in {self.folder}."
            )
        return choose_codecs(
            index,
            inputs_of(self.model),
            self.options,
            alphabet=self.alphabet,
            where=hide_secrets(index.uri),
        )


_OPTIONS = fields(SequenceOptions)
_RANKS_OF_KIND = {"text": (2, 3), "tokens": (2,), "image": (2, 3, 4, 5), "vector": (2,)}
"""Dimensions of a model's inputs, the batch included: ids or matrices of characters, ids of tokens,
images and other tensors, vectors."""
