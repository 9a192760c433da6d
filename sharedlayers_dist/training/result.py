"""What a training run returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The outcome of one training run."""

    run: str
    """The run folder, a path or a URI."""
    epochs: int
    """Passes over the training pairs since the start of the run, resumed parts included."""
    steps: int
    """Steps of the optimizer since the start of the run."""
    metrics: dict[str, float]
    """Metrics of the last epoch over all ranks; those of the validation pairs begin with `val_`."""

    @property
    def model(self) -> str:
        """The trained model in Keras's own format, with the notebook's inputs."""
        place, mark, options = self.run.partition("?")  # A URI may have them.
        return f"{place.rstrip('/')}/model.keras{mark}{options}"
