"""`metrics.json` and `report.html` of a run on a set of pairs."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from sharedlayers_dist.data import index_dataset
from sharedlayers_dist.errors import UserError
from sharedlayers_dist.evaluate.figures import PairFigures, measure
from sharedlayers_dist.evaluate.scoring import (
    ScoredPairs,
    TrainedRun,
    make_output_folder,
    score_pairs,
)
from sharedlayers_dist.storage.folder import LocalFolder
from sharedlayers_dist.storage.uri import hide_secrets, local_path


def evaluate(
    run: str,
    pairs: str,
    output: str,
    batch_size: int = 256,
    *,
    on_pairs: Callable[[int], Any] = lambda pairs: None,
) -> PairFigures:
    """Scores `pairs` with the model of `run`; writes metrics.json and report.html to `output`.

    Args:
        run: A finished run folder.
        pairs: Folder or URI of a pair dataset of the run's kind.
        output: Folder to write to; made if needed.
        batch_size: Pairs scored at a time.
        on_pairs: Hears how many more pairs are done.

    Raises:
        UserError: for a run, a dataset or an output that cannot be used.
    """
    folder = Path(local_path(output, name="output"))
    for name in ("metrics.json", "report.html"):
        if (folder / name).exists():
            raise UserError(
                "An evaluation is not overwritten. Received: "
                f"output={output!r}, which holds {name}. Choose another folder."
            )
    index = index_dataset(pairs)
    trained = TrainedRun.load(run)
    make_output_folder(folder)
    scored = score_pairs(trained, index, batch_size=batch_size, on_pairs=on_pairs)
    figures = measure(scored.labels, scored.scores, scored.weights)
    title = {"run": str(trained.folder), "pairs": hide_secrets(pairs)}
    text = json.dumps(asdict(figures) | title, indent=2) + "\n"
    files = LocalFolder(folder)
    files.write("metrics.json", text.encode())
    files.write("report.html", render_report(figures, scored, title).encode())
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

    positive = scored.labels == 1
    figure = Figure(figsize=(10, 4), layout="constrained")
    curve, histogram = figure.subplots(1, 2)
    if positive.any() and not positive.all():
        accepts, hits, _ = roc_curve(scored.labels, scored.scores, sample_weight=scored.weights)
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
