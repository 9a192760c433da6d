"""Scores of pairs by a trained run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharedlayers_dist.data import DatasetIndex, PairReader, index_dataset
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.storage.uri import hide_secrets, local_path
from sharedlayers_dist.training.run_folder import MODEL, RunFolder
from sharedlayers_dist.world import World

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A finished run: its model, and what reading pairs for it takes."""

    folder: RunFolder
    model: keras.Model
    """Takes the notebook's inputs: binary matrices, or pixels in [0, 1]."""
    kind: str
    """What its items are: `text` or `image`."""
    alphabet: str
    """The characters of the matrix's columns; empty for images."""

    @classmethod
    def load(cls, run: str) -> TrainedRun:
        """Loads the run folder `run`.

        Raises:
            UserError: when it is no run folder, or its training has not finished.
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
        import keras

        with tempfile.NamedTemporaryFile(suffix=f"-{MODEL}") as file:
            file.write(content)
            file.flush()
            try:
                model = keras.models.load_model(file.name)
            except (ValueError, OSError, KeyError, BadZipFile) as error:
                raise UserError(
                    f"A run's {MODEL} must be whole. Received: run={str(folder)!r}, whose {MODEL} "
                    f"({len(content)} bytes) Keras cannot open. Write it again with train --resume."
                ) from error
        return cls(
            folder=folder,
            model=model,
            kind=facts["kind"],
            alphabet=facts["alphabet"],
        )


@dataclass(frozen=True, kw_only=True)
class ScoredPairs:
    """Scores of a dataset's pairs in the dataset's own order, each array `(pairs,)`."""

    labels: np.ndarray
    """0 or 1."""
    scores: np.ndarray
    """Probability that both sides belong together, float32."""
    weights: np.ndarray
    """How much each pair counts; 1 where the dataset has no weights."""


def score_pairs(
    run: TrainedRun,
    index: DatasetIndex,
    *,
    batch_size: int,
    on_pairs: Callable[[int], Any] = lambda pairs: None,
) -> ScoredPairs:
    """Scores every pair of `index`; `on_pairs` hears how many more are done.

    Raises:
        UserError: when the dataset's items are of another kind than the run's.
    """
    if index.kind != run.kind:
        raise UserError(
            f"A run scores pairs of the kind it was trained on. Received: {index.kind} pairs "
            f"in {hide_secrets(index.uri)}, a run on {run.kind} pairs in {run.folder}."
        )
    from sharedlayers_dist.models import compact_view

    view = compact_view(run.model)
    reader = PairReader(
        index,
        alphabet=run.alphabet,
        batch_size=batch_size,
        seed=0,
        num_streams=1,
        world=World(),
        shuffle=False,
    )
    labels = np.zeros(index.num_rows, np.float32)
    scores = np.zeros(index.num_rows, np.float32)
    weights = np.zeros(index.num_rows, np.float32)
    for batch in reader.batches(0):
        output = view.predict_on_batch({"a": batch.a, "b": batch.b})
        scores[batch.rows] = output[:, 0]
        labels[batch.rows] = batch.label[:, 0]
        weights[batch.rows] = batch.weight
        on_pairs(len(batch.rows))
    return ScoredPairs(labels=labels, scores=scores, weights=weights)


def make_output_folder(folder: Path) -> None:
    """Makes the folder that an output goes to: before the work, which may take long.

    Raises:
        UserError: where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The output's folder must be one that can be made. Received: {folder} ({error})."
        ) from error


def predict(run: str, pairs: str, output: str, batch_size: int = 256) -> int:
    """Writes the scores of `pairs` to the Parquet file `output` in the dataset's own order.

    Returns:
        The number of pairs scored.

    Raises:
        UserError: for a run, a dataset or an output that cannot be used.
    """
    target = Path(local_path(output, name="output"))
    if target.exists():
        raise UserError(
            f"The output must be a new file. Received: output={output!r}, which exists."
        )
    index = index_dataset(pairs)
    trained = TrainedRun.load(run)
    make_output_folder(target.parent)
    scored = score_pairs(trained, index, batch_size=batch_size)
    table = pa.table({"label": scored.labels.astype(np.int8), "score": scored.scores})
    partial = target.with_name(f".{target.name}.partial")
    pq.write_table(table, partial)
    partial.replace(target)
    return len(scored.scores)
