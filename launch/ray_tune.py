#!/usr/bin/env python
"""Tries several learning rates with Ray Tune; each trial is a run on Ray of its own.

    python launch/ray_tune.py --learning-rates 0.001 0.003 --pairs pairs/train \
        --validation pairs/validation --output runs/tuned --epochs 3 --num-workers 2

All options but the first are those of `sharedlayers train`. Runs are left in OUTPUT/0.001 and so
on, Tune's own records in OUTPUT/tune.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

import sharedlayers_dist.ray
from sharedlayers_dist import TrainConfig
from sharedlayers_dist.ray.cluster import join_cluster
from sharedlayers_dist.ray.driver import with_absolute_paths
from sharedlayers_dist.storage.uri import absolute, subfolder

app = App(default_parameter=Parameter(negative=()))


@app.default
def tune_learning_rate(
    *,
    learning_rates: Annotated[list[float], Parameter(consume_multiple=True)],
    config: Annotated[TrainConfig, Parameter(name="*")],
) -> None:
    """Prints the figures of each learning rate, the best first.

    Args:
        learning_rates: What to try.
        config: The options of each run but the learning rate.
    """
    config = replace(  # A trial runs in a folder of its own.
        with_absolute_paths(config),
        model=absolute_file(config.model),
        callbacks=absolute_file(config.callbacks),
    )
    output = config.output

    def try_one(choice: dict[str, Any]) -> None:
        rate = choice["learning_rate"]
        sharedlayers_dist.ray.train(
            replace(config, learning_rate=rate, output=subfolder(output, f"{rate:g}")),
            ray_callbacks=[TuneReportCallback()],
        )

    with join_cluster(config.address):
        results = tune.Tuner(
            # A trial only drives, and its workers take the CPUs; Tune wants it to take something.
            tune.with_resources(try_one, {"memory": 1}),
            param_space={"learning_rate": tune.grid_search(learning_rates)},
            tune_config=tune.TuneConfig(
                metric=config.monitored, mode=config.monitored_mode, max_concurrent_trials=1
            ),
            run_config=tune.RunConfig(name="tune", storage_path=output, verbose=0),
        ).fit()
    figures = {
        r.config["learning_rate"]: r.metrics[config.monitored] for r in results if not r.error
    }
    for rate, figure in best_first(figures, config.monitored_mode):
        print(f"{rate:g}: {config.monitored} {figure:.4f}")
    if results.num_errors:
        failed = [f"{r.config['learning_rate']:g} ({r.error})" for r in results if r.error]
        sys.exit(f"These runs have failed: {'; '.join(failed)}")


def absolute_file(name: str) -> str:
    """The name of a function, with the path of its file, if it has one, as it is from any folder.

    Args:
        name: `path/to/file.py:function`, or whatever else names a model or callbacks.
    """
    file, colon, function = name.rpartition(":")
    return f"{absolute(file)}{colon}{function}" if file.endswith(".py") else name


def best_first(
    figures: Mapping[float, float], mode: Literal["min", "max"]
) -> list[tuple[float, float]]:
    """Learning rates and their figures, the best first.

    Args:
        figures: The monitored metric after the run of each learning rate.
        mode: Whether a small or a large one is good.
    """
    return sorted(figures.items(), key=lambda item: item[1], reverse=mode == "max")


if __name__ == "__main__":
    app()
