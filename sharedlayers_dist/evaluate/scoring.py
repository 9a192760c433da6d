"""Scores of pairs by a trained run."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sharedlayers_dist.data import DatasetIndex, OrderOptions, PairReading, index_dataset
from sharedlayers_dist.data.damage import OnBadRow
from sharedlayers_dist.data.reading.shared_items import make_inputs
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate.outputs import output_path, require_folder
from sharedlayers_dist.evaluate.trained_run import TrainedRun
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.world import World


@dataclass(frozen=True, kw_only=True)
class ScoredPairs:
    """Scores of a dataset's pairs in the dataset's own order, each array `(pairs,)`.

    Example:
        >>> scored = ScoredPairs(
        ...     labels=np.array([1, -1]),
        ...     scores=np.array([0.9, np.nan]),
        ...     weights=np.array([1, 0]),
        ... )
        >>> scored.is_usable, scored.num_bad_rows
        (array([ True, False]), 1)
    """

    labels: np.ndarray
    """0 or 1; -1 for a bad row; NaN where there is none and none is required."""
    scores: np.ndarray
    """Probability that both sides belong together, float32; NaN for a bad row."""
    weights: np.ndarray
    """How much each pair counts; 1 where the dataset has no weights, 0 for a bad row."""
    problems: tuple[str, ...] = ()
    """Of bad rows that were left out: where the first of a row group lies, and what is wrong."""

    @property
    def is_usable(self) -> np.ndarray:
        """Which rows have a score, `(pairs,)`."""
        return ~np.isnan(self.scores)

    @property
    def usable(self) -> ScoredPairs:
        """The rows that have a score, alone."""
        chosen = self.is_usable
        return ScoredPairs(
            labels=self.labels[chosen], scores=self.scores[chosen], weights=self.weights[chosen]
        )

    @property
    def num_bad_rows(self) -> int:
        """Rows that were left out."""
        return int(np.count_nonzero(~self.is_usable))


def score_pairs(
    run: TrainedRun,
    index: DatasetIndex,
    *,
    batch_size: int,
    on_bad_row: OnBadRow = "error",
    requires_label: bool = True,
    on_pairs: Callable[[int], Any] = lambda pairs: None,
) -> ScoredPairs:
    """Scores every pair of `index`, in this process.

    Args:
        run: The run whose model scores.
        index: The pairs.
        batch_size: Pairs scored at a time.
        on_bad_row: `error`, or `skip` to leave bad rows out: those that the reader cannot use, and
            those whose score is not a number.
        requires_label: Whether a row without a label is a bad one.
        on_pairs: Hears how many more rows are done.

    Raises:
        UserError: when the run's model does not take the dataset's items; with `error` also for the
            first bad row.
    """
    codecs = run.choose_codecs(index)
    from sharedlayers_dist.models import compact_view

    view = compact_view(run.model)
    reading = PairReading(
        index=index,
        codecs=codecs,
        options=OrderOptions(seed=0, batch_size=batch_size, num_streams=1, shuffle=False),
        on_bad_row=on_bad_row,
        requires_label=requires_label,
    )
    reader = reading.open(World())
    labels, scores, weights = (np.zeros(index.num_rows, np.float32) for _ in range(3))
    problems = []
    for batch in reader.batches(0):
        items = make_inputs(batch.a, batch.b, shares_items=view.shares_items)
        output = np.asarray(view.predict_on_batch(items), np.float32)[:, 0]
        is_bad = batch.label[:, 0] < 0
        is_nan = ~is_bad & np.isnan(output)
        if is_nan.any():
            problems.append(_describe_nan(run, index, int(batch.rows[np.argmax(is_nan)])))
            if on_bad_row == "error":
                raise UserError(f"{problems[0]} Leave such rows out with --on-bad-row skip.")
        scores[batch.rows] = np.where(is_bad, np.nan, output)
        labels[batch.rows] = np.where(is_nan, -1, batch.label[:, 0])
        weights[batch.rows] = np.where(is_nan, 0, batch.weight)
        on_pairs(len(batch.rows))
    return ScoredPairs(
        labels=labels, scores=scores, weights=weights, problems=(*reader.stats.problems, *problems)
    )


def _describe_nan(run: TrainedRun, index: DatasetIndex, row: int) -> str:
    return (
        f"A score must be a number. Received: NaN for {index.place_of_row(row)}, by the model of "
        f"{run.folder}: its weights or the row's items are not finite."
    )


def predict(
    run: str,
    pairs: str,
    output: str,
    batch_size: int = 256,
    *,
    on_bad_row: OnBadRow = "error",
    trust_code: bool = False,
    model: str = "",
) -> ScoredPairs:
    """Writes the scores of `pairs` to the Parquet file `output`, in the dataset's own order.

    The file has a column `score` (float32; null for a row that was left out), and before it `label`
    where the dataset has one (int8; null where it is neither 0 nor 1). Of the dataset only the
    columns `a` and `b` are needed; whatever else it has does not matter.

    Args:
        run: A finished run folder, a path or a URI.
        pairs: Folder or URI of pairs of the run's kind.
        output: The file to write, which must not exist; it appears when it is whole.
        batch_size: Pairs scored at a time.
        on_bad_row: What to do with a row that has no item, or no score: `error`, or `skip`.
        trust_code: Whether to execute the sources that the run keeps of a model of one's own.
        model: Where these lie instead, as `train` takes it.

    Returns:
        The scores, one for each row of the dataset.

    Raises:
        UserError: for a run, a dataset or an output that cannot be used.

    Example:
        >>> predict("runs/first", "data/test", "s3://bucket/scores.parquet")
        Traceback (most recent call last):
        sharedlayers_dist.errors.UserError: `output` must be a path on this machine. Received: \
output='s3://bucket/scores.parquet'.
    """
    target = output_path(output)
    if os.path.lexists(target):
        raise UserError(
            f"The output must be a new file. Received: output={output!r}, which exists."
        )
    require_folder(target.parent)
    index = index_dataset(pairs, requires_label=False)
    trained = TrainedRun.load(run, trust_code=trust_code, model=model)
    scored = score_pairs(
        trained, index, batch_size=batch_size, on_bad_row=on_bad_row, requires_label=False
    )
    columns = {}
    if index.has_label:
        is_label = scored.labels >= 0  # Neither missing nor -1.
        columns["label"] = pa.array(np.where(is_label, scored.labels, 0), pa.int8(), mask=~is_label)
    columns["score"] = pa.array(scored.scores, mask=~scored.is_usable)
    table = pa.table(columns)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    LocalFolder(target.parent).write(target.name, buffer.getvalue().to_pybytes())
    return scored
