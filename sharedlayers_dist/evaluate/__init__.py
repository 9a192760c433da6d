"""What a trained run is worth: scores of pairs, figures, a report."""

from sharedlayers_dist.evaluate.figures import PairFigures, measure
from sharedlayers_dist.evaluate.report import evaluate
from sharedlayers_dist.evaluate.scoring import ScoredPairs, predict
from sharedlayers_dist.evaluate.trained_run import TrainedRun

__all__ = ["PairFigures", "ScoredPairs", "TrainedRun", "evaluate", "measure", "predict"]
