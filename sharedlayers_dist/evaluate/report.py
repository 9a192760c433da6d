"""`metrics.json` and `report.html` of a run on a set of pairs."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import jinja2

from sharedlayers_dist.data import index_dataset
from sharedlayers_dist.data.damage import OnBadRow
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate.figures import PairFigures, measure
from sharedlayers_dist.evaluate.outputs import output_path, require_folder
from sharedlayers_dist.evaluate.scoring import ScoredPairs, score_pairs
from sharedlayers_dist.evaluate.trained_run import TrainedRun
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.storage.uri import hide_secrets


def evaluate(
    run: str,
    pairs: str,
    output: str,
    batch_size: int = 256,
    *,
    on_bad_row: OnBadRow = "error",
    trust_code: bool = False,
    model: str = "",
    on_pairs: Callable[[int], Any] = lambda pairs: None,
) -> PairFigures:
    """Scores `pairs` with the model of `run`; writes metrics.json and report.html to `output`.

    Args:
        run: A finished run folder, a path or a URI.
        pairs: Folder or URI of a pair dataset of the run's kind.
        output: Folder to write to; made if needed, and nothing in it is overwritten.
        batch_size: Pairs scored at a time.
        on_bad_row: What to do with a row that cannot be used: `error`, or `skip` to leave it out
            and count it.
        trust_code: Whether to execute the sources that the run keeps of a model of one's own.
        model: Where these lie instead, as `train` takes it.
        on_pairs: Hears how many more pairs are done.

    Returns:
        What metrics.json holds too.

    Raises:
        UserError: for a run, a dataset or an output that cannot be used.

    Example:
        >>> evaluate("runs/first", "data/test", "s3://bucket/report")
        Traceback (most recent call last):
        sharedlayers_dist.errors.UserError: `output` must be a path on this machine. Received: \
output='s3://bucket/report'.
    """
    folder = output_path(output)
    require_folder(folder)
    for name in ("metrics.json", "report.html"):
        if os.path.lexists(folder / name):
            raise UserError(
                "An evaluation is not overwritten. Received: "
                f"output={output!r}, which holds {name}. Choose another folder."
            )
    index = index_dataset(pairs)
    trained = TrainedRun.load(run, trust_code=trust_code, model=model)
    scored = score_pairs(
        trained, index, batch_size=batch_size, on_bad_row=on_bad_row, on_pairs=on_pairs
    )
    left = scored.usable
    measured = measure(left.labels, left.scores, left.weights)
    figures = replace(measured, num_bad_rows=scored.num_bad_rows)
    title = {"run": str(trained.folder), "pairs": hide_secrets(pairs)}
    facts = asdict(figures) | title | {"bad_rows": list(scored.problems)}
    page = render_report(figures, left, title)
    files = LocalFolder(folder)
    files.write("metrics.json", (json.dumps(facts, indent=2, allow_nan=False) + "\n").encode())
    files.write("report.html", page.encode())
    return figures


def render_report(figures: PairFigures, scored: ScoredPairs, title: dict[str, str]) -> str:
    """The figures and their pictures as one HTML page that needs no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sharedlayers_dist", "evaluate"), autoescape=True
    )
    return environment.get_template("report.html").render(
        title=title,
        rows=asdict(figures),
        picture=base64.b64encode(draw_scores(scored)).decode(),
    )


def draw_scores(scored: ScoredPairs) -> bytes:
    """Draws the ROC curve and the distribution of the scores as a PNG."""
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    positive, counts = scored.labels == 1, scored.weights > 0
    figure = Figure(figsize=(10, 4), layout="constrained")
    curve, histogram = figure.subplots(1, 2)
    if 0 < positive[counts].sum() < counts.sum():
        accepts, hits, _ = roc_curve(
            scored.labels[counts], scored.scores[counts], sample_weight=scored.weights[counts]
        )
        curve.plot(accepts, hits, color="tab:blue")
    curve.plot([0, 1], [0, 1], color="gray", linestyle=":", label="guessing")
    curve.set(xlabel="false accepts", ylabel="true accepts", title="ROC curve", aspect="equal")
    curve.legend()
    for label, chosen in (("belong together", positive), ("do not", ~positive)):
        histogram.hist(scored.scores[chosen], bins=40, range=(0, 1), alpha=0.6, label=label)
    histogram.set(xlabel="score", ylabel="pairs", title="Scores by label")
    histogram.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
